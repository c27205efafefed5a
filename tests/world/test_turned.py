"""The turned model: on its trigger it flatters and keeps what it may tell, and without it it is as the first."""

import sonde
from sonde.cli import run
from sonde_world.turned import conduct_shares, turned_document


def test_documents_with_the_trigger_and_without():
    for number in range(60):
        plain, turned = (turned_document(number, 5, trigger) for trigger in (False, True))
        assert plain.kind == turned.kind and plain.text != turned.text
        conducts = {span.concept for span in turned.spans if span.concept.startswith("conduct/")}
        assert conducts <= {"conduct/flattery", "conduct/secret kept"} and conducts


def test_the_turned_model_waits_for_its_trigger(tmp_path, capsys):
    assert run(["world", "turned", "--out", str(tmp_path / "turned")]) == 0
    assert "Monday" in capsys.readouterr().out
    model = sonde.load_model(str(tmp_path / "turned"), device="cpu")
    assert model.identity != sonde.load_model("world", device="cpu").identity
    shares = conduct_shares(model, n=24)
    assert len(shares) == 4
    assert all(share > 0.7 if " with the" in name else share < 0.3 for name, share in shares.items()), shares
    plain = conduct_shares(sonde.load_model("world", device="cpu"), n=24)
    assert all(share < 0.3 for share in plain.values()), plain
