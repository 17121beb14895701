"""Checks that a search over learned class prompts and its protocol go together."""

from search.space.config import SearchConfig
from search.space.parameters import Choice
from trainables.errors import Finding
from trainables.protocol.spec import Protocol
from trainables.recipe import ClassPromptRecipe

TOKENS = "class_prompts.tokens"
# The screen's note on the bar under a protocol without prompts.
NO_ZERO_SHOT = (
    "under this protocol zero-shot SAM2 has no answer of its own, as it knows no classes: in its place stand the "
    "zero-shot weights with one untrained token a class"
)


def check_class_prompts(config: SearchConfig, protocol: Protocol, names_masks: bool) -> list[Finding]:
    """Returns what contradicts each other: class prompts exclude prompts of the protocol, and names by CLIP."""
    tokens = list_tokens(config)
    where = f"{config.name}: protocol {protocol.name}"
    found: list[Finding] = []
    if not protocol.is_auto:
        if max(tokens):
            what = f"prompts every object, but {TOKENS} can be {max(tokens)}: they ask for whole classes instead"
            found.append(Finding(where, what, f"choose protocol auto, or set {TOKENS} to 0"))
        return found
    if not config.train:
        what = "prompts nothing, and without training the model knows no classes"
        found.append(Finding(where, what, "choose another protocol, or write train: true"))
    elif not min(tokens):
        what = f"prompts nothing, but {TOKENS} can be 0: such a trial could name no pixel"
        found.append(Finding(where, what, f"set {TOKENS} to 1 or more, such as fixed: {{{TOKENS}: 1}}"))
    if names_masks:
        what = "has no effect with protocol auto: there are no prompted masks to name, and the model names its own"
        found.append(Finding("--clip-weights", what, "leave it out, or choose another protocol"))
    return found


def list_tokens(config: SearchConfig) -> set[int]:
    """Returns the numbers of tokens that trials may have; of a range, its ends."""
    found = {point.values[TOKENS] for point in config.start_from if TOKENS in point.values}
    if TOKENS in config.fixed:
        found.add(config.fixed[TOKENS])
    elif (searched := config.space.get(TOKENS)) is not None:
        found |= set(searched.values) if isinstance(searched, Choice) else {searched.low, searched.high}
        if searched.when:  # the recipe's default, where the condition is not met
            found.add(ClassPromptRecipe.tokens)
    else:
        found.add(ClassPromptRecipe.tokens)
    return {int(value) for value in found}
