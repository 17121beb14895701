"""The card of an exported model: what it is, its training data, and its scores beside the bar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.reporting.templates import load_template
from search.run_folder.chosen import Chosen
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.space.recorded_experiments import RECORDED_BAR
from trainables.export.qupath_file import SAMAPI_TYPES
from trainables.model.build import MODELS


@dataclass(frozen=True)
class Card:
    """The card of one export.

    Attributes:
        summary: The search's outcome; None if it has not ended.
        stock_dice: Dice of the exported files on the validation regions: by stock SAM2ImagePredictor, or by this
            project's evaluator if they hold class prompts or nothing could be merged.
        unmergeable: The part that no stock checkpoint can hold, so that there is no ``sam2.pt``; empty if there is one.
        has_choice: Whether the search made its choice; else it is the best trial so far, where its best epoch counted.
        has_adapter: Whether the files include an adapter.
        formats: Dice of each further format, by the format's name.
    """

    record: SearchRecord
    chosen: Chosen
    summary: Summary | None
    stock_dice: float
    unmergeable: str = ""
    has_choice: bool = True
    has_adapter: bool = True
    formats: Mapping[str, float] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Returns the whole card, laid out by ``card.md``."""
        record, summary = self.record, self.summary
        opening = summary.test.opening if summary else 1
        return load_template("card.md", digits=4).render(
            card=self,
            record=record,
            context=record.context,
            protocol=record.context.protocol,
            chosen=self.chosen,
            summary=summary,
            marks=self._list_marks(),
            look="first opening" if opening == 1 else f"opening {opening}",
            bar=RECORDED_BAR,
            spec=MODELS[record.context.model],
            load_arguments=self._list_load_arguments(),
            samapi_type=SAMAPI_TYPES.get(record.context.model, ("",))[0],
        )

    def _list_marks(self) -> list[str]:
        """Returns what a reader must know first: that it is a demo, and caveats."""
        caveats = self.summary.origin.caveats if self.summary else self.record.caveats
        marks = [f"Made with {self.record.demo}: its numbers say nothing about tissue."] if self.record.demo else []
        return marks + [f"{caveat[0].upper()}{caveat[1:]}." for caveat in caveats]

    def _list_load_arguments(self) -> list[str]:
        """Returns the arguments by which ``load_unmerged`` loads the folder, as code; paths are made anonymous."""
        context, params = self.record.context, self.chosen.params
        arguments = ['"/absolute/path/of/this/folder"']
        if context.checkpoint is not None:
            arguments.append(f'checkpoint="/absolute/path/of/{Path(context.checkpoint).name}"')
        encoder = params.get("fusion.encoder") if params.get("fusion.kind", "none") != "none" else None
        if encoder in context.pathology_weights:
            file = Path(context.pathology_weights[str(encoder)]).name
            arguments.append(f'pathology_weights={{"{encoder}": "/absolute/path/of/{file}"}}')
        return arguments
