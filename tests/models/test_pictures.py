"""Pictures: read by the model's own processor, and every patch a position like any other."""

import io
from typing import Any

import pytest
import torch
from PIL import Image

from sonde.errors import ModelLacksError, PictureError
from sonde.models.load import load_model, wrap_model
from sonde.models.pictures import Expanded, Picture
from tests.known import known
from tests.tiny import (
    MARK,
    attentions,
    make_model,
    make_network,
    make_processor,
    make_tokenizer,
    write_model,
    write_picture,
)

SITE = "layers.1.residual"


@pytest.fixture
def images(tmp_path):
    return [write_picture(tmp_path / f"{n}.png", n, size) for n, size in enumerate([(20, 20), (64, 48), (30, 90)])]


@pytest.mark.parametrize("attention", attentions("llava"))
def test_a_picture_is_read_as_the_model_reads_it(images, attention):
    """Ids, stream and logits equal those of transformers' processor and model, bit for bit."""
    model = make_model("llava", attention=attention)
    text = "a <image>, then <image> by the bay"
    processor: Any = make_processor()
    inputs = processor(text=[text], images=[[Image.open(image) for image in images[:2]]], return_tensors="pt")
    with torch.no_grad():
        expected = model.network(**inputs, output_hidden_states=True)
    tokens = model.tokenize(text, images=images[:2])
    assert torch.equal(tokens.ids, inputs["input_ids"]) and torch.equal(known(tokens.pixels), inputs["pixel_values"])
    read = model.read(tokens, ["embedding", SITE, "final", "logits"])
    for name, value in zip(read, (*(expected.hidden_states[n] for n in (0, 2, 3)), expected.logits), strict=True):
        assert torch.equal(read[name], value), name
    patches = tokens.ids[0] == MARK
    assert patches.sum() == 2 * 16
    # What enters at the patches is what the projector gives, not the mark's embedding.
    projected = model.read(tokens, "module:model.multi_modal_projector")
    assert torch.equal(read["embedding"][0][patches], projected.flatten(0, 1))


def test_rows_of_a_batch_have_their_own_pictures(images):
    model = make_model("llava")
    texts = ["<image> here", "no picture at all", "two: <image><image> of them"]
    sets = [images[:1], [], images[1:]]
    for side in ("left", "right"):
        tokens = model.tokenize(texts, side, sets)
        together = model.read(tokens, SITE)
        for row, (text, own) in enumerate(zip(texts, sets, strict=True)):
            alone = model.read(model.tokenize(text, images=own), SITE)[0]
            torch.testing.assert_close(together[row][tokens.mask[row].bool()], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}], ids=str)
def test_generating_from_pictures_under_edits(images, options):
    model = make_model("llava")
    texts, sets = ["what is <image>", "and <image> there"], [images[:1], images[1:2]]
    tokens = model.tokenize(texts, "left", sets)

    class Push:
        site, where = SITE, "answer"

        def __call__(self, x):
            return x + 5 * torch.sin(torch.arange(x.shape[-1]) ** 2.0)

    def generate(**more):
        torch.manual_seed(0)
        return model.generate_ids(tokens, 8, **options, **more)

    plain = generate()
    pictures = [Image.open(own[0]) for own in sets]
    processor: Any = make_processor()
    inputs = processor(text=texts, images=[[p] for p in pictures], return_tensors="pt", padding=True)
    inputs = {"input_ids": tokens.ids, "attention_mask": tokens.mask, "pixel_values": inputs["pixel_values"]}
    torch.manual_seed(0)
    network: Any = model.network
    theirs = network.generate(**inputs, max_new_tokens=8, pad_token_id=0, **({"do_sample": False} | options))
    assert torch.equal(plain, theirs)
    with model.edited(Push()):
        cached, uncached = generate(), generate(use_cache=False)
    assert torch.equal(cached, uncached) and not torch.equal(cached, plain)


def test_beams_that_transformers_would_mix_up_are_refused(images):
    model = make_model("llava")
    tokens = model.tokenize("<image> and <image>", "left", images[:2])
    assert model.generate_ids(tokens, 2).shape[1] == tokens.ids.shape[1] + 2
    with pytest.raises(ModelLacksError, match="2 pictures in 1 rows.*one picture a row, or one beam"):
        model.generate_ids(tokens, 2, num_beams=2)


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_conversation_about_a_picture(images, in_parts):
    model = make_model("llava")
    if in_parts:
        model.tokenizer.chat_template = (
            "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}"
            "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
        )
    messages = [{"role": "user", "content": "<image>what is it?", "images": images[:1]}]
    tokens = model.chat_tokens(messages)
    assert (tokens.ids == MARK).sum() == 16 and len(known(tokens.pixels)) == 1
    said = model.tokenizer.decode(tokens.ids[0])
    assert "user: " + "<image>" * 16 + "what is it?" in said
    assert isinstance(model.generate(tokens, 4), str)


def test_a_folder_with_a_processor_reads_pictures(tmp_path, images):
    """From disk as from memory, without torchvision."""
    loaded = load_model(write_model(tmp_path / "model", "llava"))
    assert type(loaded.network).__name__ == "LlavaForConditionalGeneration"
    assert type(known(loaded.pictures).processor.image_processor).__name__.endswith("Pil")
    tokens = loaded.tokenize("a <image>", images=images[:1])
    expected = make_model("llava").read(tokens, SITE)
    assert torch.equal(loaded.read(tokens, SITE), expected)


def test_what_the_model_saw_can_be_shown(images):
    reader = make_model("llava").require_pictures()
    for image in images:
        picture = reader.read(image)
        assert picture.n_patches == 16 and picture.grid == (4, 4)
        shown = Image.open(io.BytesIO(reader.encode(picture)))
        assert shown.size == (16, 16) and shown.format == "WEBP"
        again = reader.read(shown)
        torch.testing.assert_close(again.pixels, picture.pixels, atol=0.01, rtol=0)
    assert Picture(torch.zeros(3, 20, 40), 8).grid == (2, 4)
    assert Picture(torch.zeros(3, 20, 20), 7).grid == (1, 7)


def test_spans_lead_back_to_the_text_as_written():
    pictures = [Picture(torch.zeros(3, 4, 4), n) for n in (3, 1, 2)]
    text = "ab<image><image>cd<image>e"
    expanded = make_model("llava").require_pictures().expand(text, pictures)
    assert expanded.text == "ab" + "<image>" * 4 + "cd" + "<image>" * 2 + "e"
    spans = make_tokenizer()(expanded.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    places = [expanded.place(*span) for span in spans]
    assert [text[start:end] for start, end, _ in places] == [
        "a",
        "b",
        *["<image>"] * 4,
        "c",
        "d",
        *["<image>"] * 2,
        "e",
    ]
    assert [number for *_, number in places] == [None, None, 0, 0, 0, 1, None, None, 2, 2, None]
    assert Expanded("plain").place(2, 4) == (2, 4, None)


def test_wrong_pictures_are_one_line(tmp_path, images):
    model = make_model("llava")
    (tmp_path / "notes.png").write_text("not a picture")
    (tmp_path / "half.png").write_bytes(images[0].read_bytes()[:60])
    wide = tmp_path / "wide.png"
    Image.new("1", (20_000, 10_000)).save(wide)
    for text, own, message in (
        ("<image>", [tmp_path / "none.png"], r"there is no picture .*none\.png"),
        ("<image>", [tmp_path], "cannot be read"),
        ("<image>", [tmp_path / "notes.png"], r"notes\.png cannot be read \(no known image format\)"),
        ("<image>", [tmp_path / "half.png"], r"half\.png cannot be read"),
        ("<image>", [wide], "more than .* pixels; scale it down"),
        ("<image> <image>", images[:1], r"the text has 2 <image> marks, but 1 picture; there must be one for each"),
        ("no mark", images[:1], r"0 <image> marks, but 1 picture"),
        ("<image>", [], r"1 <image> mark, but 0 pictures"),
    ):
        with pytest.raises(PictureError, match=message) as caught:
            model.tokenize(text, images=own)
        assert "\n" not in str(caught.value)


def test_a_model_that_reads_no_pictures_says_why(images):
    with pytest.raises(ModelLacksError, match="tiny llama reads no pictures: it is a llama model, of text alone"):
        make_model("llama").tokenize("<image>", images=images[:1])
    bare = wrap_model(make_network("llava"), make_tokenizer(), "bare")
    with pytest.raises(ModelLacksError, match=r"bare has no processor.*add its processor_config\.json"):
        bare.tokenize("<image>", images=images[:1])
    assert make_model("llama").tokenize("a <image> mark is text to it").ids.shape[0] == 1
