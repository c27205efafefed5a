"""Pictures of the text, and the examples that they stand in."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from sonde.features.examples import Example
from sonde.web import wire
from sonde.web.served import PROBLEMS, Number, ServedIndex

router = APIRouter()


@router.get(
    "/api/pictures/{document}/{number}",
    responses=PROBLEMS | {200: {"content": {"image/webp": {}}}},
    response_class=Response,
)
def get_picture(served: ServedIndex, document: Annotated[int, Path(ge=0, le=2**62)], number: Number) -> Response:
    """A picture of the text, as the model saw it."""
    image = served.index.picture(document, number)
    return Response(image, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})


def example_view(example: Example) -> wire.ExampleView:
    return wire.ExampleView(
        document=example.document,
        position=example.position,
        value=example.value,
        peak=example.peak,
        pieces=[wire.Piece(text=text, value=value) for text, value in example.pieces],
        pictures=[
            wire.PictureView(number=p.number, piece=p.piece, rows=p.rows, columns=p.columns, values=list(p.values))
            for p in example.pictures
        ],
    )
