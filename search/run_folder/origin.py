"""Where a figure comes from: under which protocol, on which data, by which model."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Origin:
    """What two figures must share before they can be compared; a field that is empty, or None, is not known.

    Attributes:
        protocol: Name of the protocol.
        protocol_id: Hash of all that the protocol fixes; one that is not this project's has none.
        data: Name of the data set.
        data_fingerprint: Hash of names, classes, ignored ids and the bytes of images and masks.
        model: SAM2's size, or what else was scored.
        seed: The search's seed.
        demo: Which parts are a demo; empty where none is.
        caveats: What a reader must know before the figures are used.
    """

    protocol: str
    protocol_id: str = ""
    data: str = ""
    data_fingerprint: str = ""
    model: str = ""
    seed: int | None = None
    demo: str = ""
    caveats: tuple[str, ...] = ()

    def to_tags(self) -> dict[str, str]:
        """Returns MLflow's tags: one for each field that is known, and always `demo`."""
        seed, caveats = "" if self.seed is None else str(self.seed), "; ".join(self.caveats)
        tags = {**asdict(self), "seed": seed, "demo": self.demo or "no", "caveats": caveats}
        return {name: value for name, value in tags.items() if value}
