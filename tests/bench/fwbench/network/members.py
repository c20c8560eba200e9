"""Networks and members of them, made anew for each row."""

import secrets
import time
from pathlib import Path

from mesh.identity.claim import Chain
from mesh.identity.invite import Terms, enrol, make_invite, parse_invite_untrusted
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.membership import Membership
from mesh.identity.store import IdentityStore
from mesh.link.connection.service import Credentials

PROGRAM = "fwnode bench"
_USES = 1000


def new_invite() -> str:
    """The line by which a new network is entered."""
    owner = SecretKey(secrets.token_bytes(SEED_BYTES))
    seed = secrets.token_bytes(SEED_BYTES)
    terms = Terms(uses=_USES)
    now = int(time.time())
    return make_invite(owner, owner.node_id, terms, enrolment_seed=seed, seeds=(), now_unix_s=now).line()


def new_key() -> SecretKey:
    return SecretKey(secrets.token_bytes(SEED_BYTES))


def join(invite: str, key: SecretKey, name: str) -> Chain:
    return enrol(parse_invite_untrusted(invite), key.node_id, name, int(time.time())).chain


def credentials(invite: str, name: str) -> Credentials:
    key = new_key()
    return Credentials(key, Membership(join(invite, key, name)), PROGRAM, time.time)


def settle(folder: Path, invite: str, name: str) -> None:
    """Make the data folder that of a member."""
    store = IdentityStore(folder)
    store.keep_membership(Membership(join(invite, store.node_key(), name)).state())
