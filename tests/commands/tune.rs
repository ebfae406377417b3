//! `forelay tune` on the recorded scenarios: a model with a card, a journal, and clear refusals.

use std::path::{Path, PathBuf};

use crate::run;
use forelay::forecast::model::{Model, ModelFile};

fn scenario(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("scenarios").join(name);
    path.to_str().unwrap().to_owned()
}

fn tune(arguments: &[&str]) -> (i32, String, String) {
    run(&[&["tune"], arguments].concat())
}

fn out(folder: &tempfile::TempDir) -> (PathBuf, String) {
    let path = folder.path().join("model.toml");
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

#[test]
fn a_model_is_written_with_a_card_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, text) = out(&folder);
    let (one, other) = (
        scenario("ca-flash-crowd.jsonl.zst"),
        scenario("karpenter-rollout.jsonl.zst"),
    );
    let arguments = |trials| -> Vec<String> {
        let fixed = [&one, &other, "--out", &text, "--output", "json", "--trials"];
        let fixed = fixed.into_iter().map(str::to_owned);
        fixed.chain([format!("{trials}")]).collect()
    };
    let run = |trials: u32| {
        let arguments = arguments(trials);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, out, err) = tune(&arguments);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    run(1);
    let file = ModelFile::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(file.model, Model::untuned());
    let outcome = run(3);
    assert_eq!(outcome["resumed"], 1);
    let file = ModelFile::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let card = file.card.unwrap();
    assert_eq!(card.trials, 3);
    assert_eq!(card.training[0].name, "ca-flash-crowd");
    assert_eq!(card.validation[0].name, "karpenter-rollout");
    for half in [&card.training_scores, &card.validation_scores] {
        let names: Vec<&str> = half.keys().map(String::as_str).collect();
        assert_eq!(names, ["decayed", "pending-only", "tuned", "untuned"]);
    }
    // With other scenarios the journal is of another search.
    let arguments = [&one, "--validate", &one, "--out", &text];
    let (code, _, err) = tune(&arguments);
    assert!(code == 2 && err.contains("given twice"), "{code} {err}");
    let arguments = [&other, "--validate", &one, "--out", &text];
    let (code, _, err) = tune(&arguments);
    assert!(code == 2 && err.contains("--fresh"), "{code} {err}");
}

#[test]
fn what_cannot_be_tuned_is_refused_before_anything_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = out(&folder);
    let one = scenario("karpenter-rollout.jsonl.zst");
    let nowhere = folder.path().join("no/model.toml");
    let nowhere = nowhere.to_str().unwrap();
    for (arguments, word) in [
        (&[one.as_str(), "--out", &text][..], "--validate"),
        (&[&one, &one, "--out", nowhere], "no folder"),
        (&[&one, &one, "--out", &text, "--trials", "0"], "--trials"),
        (
            &[&one, &one, "--out", &text, "--start", "/nowhere"],
            "--start",
        ),
    ] {
        let (code, out, err) = tune(arguments);
        assert!(code == 2 && out.is_empty(), "{arguments:?}: {code} {err}");
        assert!(err.contains(word), "{err}");
    }
}
