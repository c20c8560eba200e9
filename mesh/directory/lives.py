"""Life and death of others, as one node sees them: vouches, accusations, graves, watched links."""

from collections.abc import Callable
from random import Random

from mesh.directory.table import Directory, Grave
from mesh.errors import WireError
from mesh.membership import detector
from mesh.membership.message import Beat, Vouched, pushes
from mesh.membership.neighbour import Neighbour
from mesh.membership.outbox import Outbox
from mesh.membership.overlay import ACTIVE_MAX, Overlay
from mesh.membership.suspicion import (
    Accusation,
    Suspicions,
    Vouch,
    accusation_id,
    parse_accusation_untrusted,
    parse_vouch_untrusted,
    sign_accusation,
    sign_vouch,
)
from mesh.model import NetworkId, NodeId, Signer, Verify

VOUCH_EVERY_S = 0.5  # between vouches while the view changes
UNVOUCHED_S = 1.0  # between heartbeats to a neighbour whose vouch was lost: nobody could speak of its death
WATCHED_MAX = 16  # neighbours whose link broke, timed until they are back or dead
OBITUARY_EVERY_S = 0.2  # answers to records of the dead, per link
ACCUSATION_COST_BYTES = 8 * 1024  # of a link's allowance: two signatures to check
LIVELY_S = 3.0  # a neighbour heard this lately is told of its death rather than cut off


class Lives:
    """What one node holds for and against others.

    `refute` is called with the generation to rise to when an accusation says that this node is dead; `gone`
    when another one is.
    """

    def __init__(
        self,
        signer: Signer,
        network: NetworkId,
        verify: Verify,
        directory: Directory,
        overlay: Overlay,
        outbox: Outbox,
        random: Random,
        refute: Callable[[int, float], None],
        gone: Callable[[NodeId, float], None],
    ) -> None:
        self._signer = signer
        self._network = network
        self._verify = verify
        self._directory = directory
        self._overlay = overlay
        self._outbox = outbox
        self._random = random
        self._refute = refute
        self._gone = gone
        self._watched: dict[NodeId, Neighbour] = {}
        self._vouch: Vouch | None = None
        self._vouch_sequence = 0
        self._vouched_view = -1
        self._vouch_at = float("-inf")
        self.suspicions = Suspicions()
        self.generation = 0
        self.accusations_made = 0

    # --- links

    def link_up(self, neighbour: Neighbour, now: float) -> None:
        """There is a link (again); one declared dead is told so."""
        self._watched.pop(neighbour.id, None)
        grave = self._directory.grave(neighbour.id)
        if grave is not None and not grave.left:
            self.send_obituaries(neighbour, [grave], now)

    def link_down(self, neighbour: Neighbour, now: float) -> None:
        """A neighbour's link broke: time it, and try to get it back."""
        if neighbour.id in self._directory and len(self._watched) < WATCHED_MAX:
            self._watched[neighbour.id] = neighbour
            neighbour.due = now
            self._overlay.want(neighbour.id, now)

    def closed(self, node: NodeId) -> None:
        """A node left, was buried or was forbidden: nothing is held against it any more."""
        self._watched.pop(node, None)
        self.suspicions.clear(node)

    def on_beat(self, neighbour: Neighbour, message: Beat, now: float) -> None:
        """A heartbeat: answer a question, and send our vouch if the peer has not the newest."""
        if message.ask:
            detector.answer(neighbour, self._outbox, now)
        vouch = self._vouch
        if vouch is not None and message.vouch < vouch.sequence and neighbour.id in vouch.neighbours:
            self._outbox.send(neighbour, Vouched(vouch.blob), now)

    def on_vouched(self, neighbour: Neighbour, message: Vouched, now: float) -> None:
        """The peer's list of neighbours; kept if it is the newest."""
        vouch = parse_vouch_untrusted(message.vouch, self._network, self._verify)
        if vouch.subject != neighbour.id:
            raise WireError("a vouch of somebody else")
        held = neighbour.vouch
        if held is None or (vouch.generation, vouch.sequence) > (held.generation, held.sequence):
            neighbour.vouch = vouch

    # --- accusations

    def take_untrusted(self, neighbour: Neighbour, blobs: list[bytes], now: float) -> list[Accusation]:
        """Check accusations that a peer sent; returns those worth sending on. Raises WireError."""
        fresh = []
        for blob in blobs:
            if self.suspicions.holds(accusation_id(blob)) is not None:
                continue
            neighbour.allowance -= ACCUSATION_COST_BYTES
            accusation = parse_accusation_untrusted(blob, self._network, self._verify)
            if self._weigh(accusation, now):
                fresh.append(accusation)
        return fresh

    def send_obituaries(self, neighbour: Neighbour, graves: list[Grave], now: float) -> None:
        """Tell a peer that has records of the dead why we do not take them."""
        if now - neighbour.obituary_at < OBITUARY_EVERY_S:
            return
        neighbour.obituary_at = now
        goodbyes = [blob for grave in graves if grave.left for blob in grave.proof]
        accusations = [blob for grave in graves if not grave.left for blob in grave.proof]
        for data in pushes(goodbyes, accusations, aside=True):
            self._outbox.send_bytes(neighbour, data, now)

    # --- time

    def look(self, now: float) -> list[Accusation]:
        """Heartbeats, questions and verdicts that are due; returns our own new accusations."""
        found = []
        soon = now + detector.EARLY_S
        for neighbour in self._overlay.active.values():
            if neighbour.due <= soon:
                if neighbour.vouch is None and now - neighbour.sent >= UNVOUCHED_S:
                    detector.answer(neighbour, self._outbox, now)  # it says that we hold no vouch
                finding = detector.look(neighbour, True, self._outbox, self._random, now)
                if neighbour.vouch is None:
                    neighbour.due = min(neighbour.due, now + UNVOUCHED_S)
                if finding is not detector.Finding.FINE:
                    found.append((neighbour, finding))
        for neighbour in self._watched.values():
            finding = detector.look(neighbour, False, self._outbox, self._random, now)
            if finding is not detector.Finding.FINE:
                found.append((neighbour, finding))
        made = []
        for neighbour, finding in found:
            made += self._accuse(neighbour, finding is detector.Finding.DEAD, now)
            if finding is detector.Finding.DEAD:
                self._watched.pop(neighbour.id, None)
                self._overlay.drop(neighbour.id, "silent")
        for vouch, proof in self.suspicions.verdicts(now):
            self._bury(vouch, proof, now)
        return made

    def vouch(self, now: float) -> None:
        """If our view changed, give every neighbour the list of all: they may now speak of our death."""
        if now < self._vouch_at or self._vouched_view == self._overlay.view_version:
            return
        self._vouched_view = self._overlay.view_version
        self._vouch_at = now + VOUCH_EVERY_S
        self._vouch_sequence += 1
        neighbours = list(self._overlay.active)
        vouch = sign_vouch(self._signer, self._network, self.generation, self._vouch_sequence, neighbours)
        self._vouch = vouch
        for neighbour in self._overlay.active.values():
            self._outbox.send(neighbour, Vouched(vouch.blob), now)

    def rise(self, generation: int) -> None:
        """Our generation changed: the next vouch must say so."""
        self.generation = generation
        self._vouched_view = -1

    def times(self) -> list[float]:
        """When something here is next due."""
        times = [neighbour.due for neighbour in self._overlay.active.values()]
        times += [neighbour.due for neighbour in self._watched.values()]
        due = self.suspicions.deadline()
        if due is not None:
            times.append(due)
        if self._vouched_view != self._overlay.view_version:
            times.append(self._vouch_at)
        return times

    # --- inside

    def _weigh(self, accusation: Accusation, now: float) -> bool:
        """Take in an accusation; whether it is news. One against this node is answered."""
        vouch = accusation.vouch
        if vouch.subject == self._signer.node_id:
            if vouch.generation >= self.generation:
                accuser = self._overlay.active.get(accusation.accuser)
                if accuser is not None and self._overlay.population > ACTIVE_MAX + 1:
                    self._overlay.part(accuser, now)  # where there are others; it may only hear us badly
                self._refute(vouch.generation + 1, now)
            return False
        if vouch.generation != self._directory.generation(vouch.subject):
            return False
        return self.suspicions.add(accusation, now)

    def _accuse(self, neighbour: Neighbour, final: bool, now: float) -> list[Accusation]:
        """A neighbour fell silent. Without a current vouch nobody would believe us, and we do not."""
        vouch = neighbour.vouch
        if vouch is None or self._signer.node_id not in vouch.neighbours:
            return []
        accusation = sign_accusation(self._signer, self._network, vouch, final)
        if not self._weigh(accusation, now):
            return []
        self.accusations_made += 1
        return [accusation]

    def _bury(self, vouch: Vouch, proof: tuple[Accusation, ...], now: float) -> None:
        node = vouch.subject
        blobs = tuple(accusation.blob for accusation in proof)
        if not self._directory.bury(node, vouch.generation, now, blobs, left=False):
            return
        self.closed(node)
        self._gone(node, now)
        neighbour = self._overlay.links.get(node)
        if neighbour is not None and now - neighbour.heard < LIVELY_S:
            self.send_obituaries(neighbour, [Grave(vouch.generation, now, False, blobs)], now)
        else:
            self._overlay.drop(node, "dead")
