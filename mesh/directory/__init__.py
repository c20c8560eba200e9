"""What nodes say of themselves: signed, versioned records that everybody ends up with."""
