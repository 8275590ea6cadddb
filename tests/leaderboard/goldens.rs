//! Prompts, draws and metrics against goldens of the harness itself. The goldens and the data behind
//! them are not in the repository; without them these tests say so and pass.

use serde_json::Value;
use std::path::{Path, PathBuf};
use touchstone::benchmarks::leaderboard::answers::Extraction;
use touchstone::benchmarks::leaderboard::groups::{self, Part};
use touchstone::benchmarks::leaderboard::metrics;
use touchstone::benchmarks::leaderboard::request::{hash_of_requests, hash_of_texts, sha256};
use touchstone::benchmarks::leaderboard::tasks::{hellaswag, mmlu};
use touchstone::benchmarks::leaderboard::{
    Convention, Data, Document, Item, Likelihood, Prompting, PythonRandom, Requests, Response,
    Shots, Split, Targets, Task, labelled, scores,
};
use touchstone::cli::complain;
use touchstone::python::text::capitalize;

/// The folder of the goldens, if it is there.
pub fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("TOUCHSTONE_SHARED_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let found = named.or_else(|| beside.is_dir().then_some(beside));
    if found.is_none() {
        complain("skipped: TOUCHSTONE_SHARED_DATA names no folder of goldens\n");
    }
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn one(name: &str) -> Task {
    Task::named(name).unwrap()[0]
}

/// Documents of a split in the folder of benchmarks.
fn documents(shared: &Path, task: Task, split: Split, convention: Convention) -> Vec<Document> {
    let data = Data::Folder(shared.join("benchmarks"));
    data.split(task, split)
        .unwrap()
        .documents(task, convention)
        .unwrap()
}

/// GSM8K's whole training split, which lies elsewhere.
fn gsm8k_train(shared: &Path, convention: Convention) -> Vec<Document> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gsm8k")).unwrap();
    let to = folder.path().join("gsm8k/train.jsonl");
    std::fs::copy(shared.join("evals/gsm8k/train.jsonl"), to).unwrap();
    let data = Data::Folder(folder.path().to_owned());
    let task = Task::Gsm8k;
    data.split(task, Split::Train)
        .unwrap()
        .documents(task, convention)
        .unwrap()
}

fn items(
    task: Task,
    convention: Convention,
    shots: usize,
    documents: Vec<Document>,
    pool: &[Document],
) -> Vec<Item> {
    let prompting = Prompting {
        task,
        convention,
        shots,
        limit: None,
    };
    prompting.items(documents, pool).unwrap()
}

fn requests(items: &[Item]) -> impl Iterator<Item = &Requests> {
    items.iter().map(|item| &item.requests)
}

fn contexts(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.requests.context()).collect()
}

fn v04(shared: &Path) -> Value {
    json(&shared.join("evals/lm_eval/goldens_v0.4_46c7966.json"))
}

#[test]
fn draws_are_those_of_python() {
    let Some(shared) = shared() else { return };
    let goldens = v04(&shared);
    for (name, expected) in goldens["python_random"].as_object().unwrap() {
        if let Some(rest) = name.strip_prefix("Random(1234).sample(range(") {
            let (n, rest) = rest.split_once("),").unwrap();
            let k = rest.split_once(')').unwrap().0;
            let (n, k) = (n.parse().unwrap(), k.parse().unwrap());
            let mut rng = PythonRandom::new(1234);
            for expected in expected.as_array().unwrap() {
                let expected: Vec<usize> = numbers(expected);
                assert_eq!(rng.sample(n, k).unwrap(), expected, "{name}");
            }
        } else if name.starts_with("Random(1234).random()") {
            let mut rng = PythonRandom::new(1234);
            let expected: Vec<f64> = numbers(expected);
            assert!(expected.iter().all(|it| *it == rng.random()));
        } else if let Some(rest) = name.strip_prefix("Random(")
            && let Some((seed, rest)) = rest.split_once(')')
            && rest.starts_with(".getrandbits(32)")
        {
            let mut rng = PythonRandom::new(seed.parse().unwrap());
            let expected: Vec<u32> = numbers(expected);
            assert!(expected.iter().all(|it| *it == rng.bits(32)));
        }
    }
    let goldens = &goldens["python_random"];
    let mut rng = PythonRandom::new(42);
    let mut shuffled: Vec<usize> = (0..10).collect();
    rng.shuffle(&mut shuffled);
    let expected: Vec<usize> = numbers(&goldens["Random(42).shuffle(list(range(10)))"]);
    assert_eq!(shuffled, expected);
    let expected: Vec<usize> =
        numbers(&goldens["then .sample(range(7473),5) from the same generator"]);
    assert_eq!(rng.sample(7473, 5).unwrap(), expected);
}

#[test]
fn arc_examples_are_those_of_46c7966() {
    let Some(shared) = shared() else { return };
    let goldens = &v04(&shared)["arc_challenge_25shot"];
    let (task, convention) = (Task::ArcChallenge, Convention::H4);
    let pool = documents(&shared, task, Split::Train, convention);
    let prompting = Prompting {
        task,
        convention,
        shots: 25,
        limit: None,
    };
    let mut sampler = prompting.sampler(&pool);
    // The test split is not at hand; the goldens were made with the first row in the place of every
    // document, and an example that equals the document is dropped.
    let parts: Vec<String> = (0..goldens["n"].as_u64().unwrap())
        .map(|_| labelled(&sampler.examples(&pool[0]).unwrap()))
        .collect();
    let first: Vec<String> = parts.iter().take(20).map(|part| sha256(part)).collect();
    assert_eq!(first, strings(&goldens["labelled_part_sha256_first_20"]));
    assert_eq!(
        hash_of_texts(parts.iter().map(String::as_str)),
        goldens["sha256_of_json_list_of_all_labelled_parts"]
    );
    let examples = json(&shared.join("evals/lm_eval/prompt_examples_v0.4_46c7966.json"));
    assert_eq!(
        parts[0],
        examples["arc_challenge_25shot_doc0_labelled_part"]
    );
    // The one request that is given whole.
    let example = &v04(&shared)["arc_request_example"];
    let question = example["doc"]["question"].as_str().unwrap();
    let document = pool.iter().find(|it| it.query.contains(question)).unwrap();
    let items = items(task, convention, 0, vec![document.clone()], &[]);
    let Requests::Likelihoods(asked) = &items[0].requests else {
        panic!("candidates are scored")
    };
    assert_eq!(*asked[0].context, *example["context"].as_str().unwrap());
    let candidates: Vec<&str> = asked.iter().map(|it| it.continuation.as_str()).collect();
    assert_eq!(candidates, strings(&example["continuations"]));
}

#[test]
fn gsm8k_prompts_are_those_of_46c7966_and_of_v0_3_0() {
    let Some(shared) = shared() else { return };
    let goldens = &v04(&shared)["gsm8k_5shot"];
    let asked = |convention, shots| {
        let pool = gsm8k_train(&shared, convention);
        let documents = documents(&shared, Task::Gsm8k, Split::Test, convention);
        items(Task::Gsm8k, convention, shots, documents, &pool)
    };
    let h4 = asked(Convention::H4, 5);
    let hashes: Vec<String> = contexts(&h4).iter().take(20).map(|it| sha256(it)).collect();
    assert_eq!(hashes, strings(&goldens["prompt_sha256_first_20"]));
    assert_eq!(
        hash_of_texts(contexts(&h4)),
        goldens["sha256_of_json_list_of_all_prompts"]
    );
    let examples = json(&shared.join("evals/lm_eval/prompt_examples_v0.4_46c7966.json"));
    assert_eq!(contexts(&h4)[0], examples["gsm8k_5shot_doc0"]);
    assert_eq!(contexts(&h4)[1], examples["gsm8k_5shot_doc1"]);

    let goldens = &json(&shared.join("benchmarks/fewshot_prompt_hashes.json"))["gsm8k_5shot"];
    for convention in [Convention::V030, Convention::H3] {
        let h3 = asked(convention, 5);
        let hashes: Vec<String> = contexts(&h3).iter().take(20).map(|it| sha256(it)).collect();
        assert_eq!(hashes, strings(&goldens["first"]));
        assert_eq!(hash_of_texts(contexts(&h3)), goldens["sha256_of_json_list"]);
    }
}

#[test]
fn mmlu_prompts_are_those_of_46c7966() {
    let Some(shared) = shared() else { return };
    let goldens = v04(&shared);
    let examples = json(&shared.join("evals/lm_eval/prompt_examples_v0.4_46c7966.json"));
    // Prompts of the leaderboard's server differ in their order alone.
    for subject in &mmlu::SUBJECTS {
        let (task, convention) = (Task::Mmlu(subject), Convention::H4);
        let pool = documents(&shared, task, Split::Dev, convention);
        let prompting = Prompting {
            task,
            convention,
            shots: 5,
            limit: None,
        };
        // As for ARC, the first row stands in the place of the document.
        let examples = prompting.sampler(&pool).examples(&pool[0]).unwrap();
        assert!(examples.len() < 5);
        let part = format!("{}{}", task.description(convention), labelled(&examples));
        let expected = &goldens["mmlu_5shot_labelled_part_sha256_of_57_subjects"][subject.name];
        assert_eq!(sha256(&part), *expected, "{}", subject.name);
    }
    for (subject, golden) in goldens["mmlu_5shot"].as_object().unwrap() {
        let task = one(&format!("mmlu_{subject}"));
        let asked = |convention| {
            let pool = documents(&shared, task, Split::Dev, convention);
            let documents = documents(&shared, task, Split::Test, convention);
            items(task, convention, 5, documents, &pool)
        };
        let h4 = asked(Convention::H4);
        let hashes: Vec<String> = contexts(&h4).iter().take(5).map(|it| sha256(it)).collect();
        assert_eq!(hashes, strings(&golden["prompt_sha256_first_5"]));
        let expected = &golden["sha256_of_json_list_of_all_prompts"];
        assert_eq!(hash_of_texts(contexts(&h4)), *expected);
        if subject == "astronomy" {
            assert_eq!(contexts(&h4)[0], examples["mmlu_astronomy_5shot_doc0"]);
        }
        let mut h3 = asked(Convention::H3);
        h3.sort_by_key(|item| item.index);
        assert_eq!(contexts(&h3), contexts(&h4));
    }
}

#[test]
fn truthfulqa_and_winogrande_requests_are_those_of_46c7966() {
    let Some(shared) = shared() else { return };
    let goldens = v04(&shared);
    let examples = json(&shared.join("evals/lm_eval/prompt_examples_v0.4_46c7966.json"));
    let golden = &goldens["truthfulqa_mc2"];
    let (task, convention) = (Task::TruthfulQa, Convention::H4);
    let all = documents(&shared, task, Split::Validation, convention);
    let all = items(task, convention, 0, all, &[]);
    let key = "sha256_of_json_list_of_[context,continuation]";
    assert_eq!(hash_of_requests(requests(&all)), golden[key]);
    let hashes: Vec<String> = contexts(&all).iter().take(5).map(|it| sha256(it)).collect();
    assert_eq!(hashes, strings(&golden["context_sha256_first_5"]));
    assert_eq!(contexts(&all)[0], examples["truthfulqa_mc2_doc0_context"]);

    let golden = &goldens["winogrande_46c7966_any_shot"];
    let task = Task::Winogrande;
    let of = |convention, shots| {
        let pool = documents(&shared, task, Split::Train, convention);
        let all = documents(&shared, task, Split::Validation, convention);
        // The published draws of the small pool are those of a split that is not named.
        let prompting = Prompting {
            task,
            convention,
            shots,
            limit: None,
        };
        prompting.items(all, &pool).unwrap()
    };
    for shots in [0, 5] {
        assert_eq!(
            hash_of_requests(requests(&of(convention, shots))),
            golden[key]
        );
    }
    // The form since cf6a832 with draws of one more, which no convention combines.
    let pool = documents(&shared, task, Split::Train, convention);
    let all = documents(&shared, task, Split::Validation, convention);
    assert_eq!(
        task.examples(convention),
        Shots::Drawn {
            from: Split::Train,
            one_more: true
        }
    );
    let prompting = Prompting {
        task,
        convention,
        shots: 5,
        limit: None,
    };
    let mut sampler = prompting.sampler(&pool);
    let kept: Vec<Requests> = all
        .iter()
        .zip(of(convention, 5))
        .map(|(document, item)| {
            let before = labelled(&sampler.examples(document).unwrap());
            let Requests::Likelihoods(mut asked) = item.requests else {
                panic!("candidates are scored")
            };
            for request in &mut asked {
                request.context = format!("{before}{}", request.context).into();
            }
            Requests::Likelihoods(asked)
        })
        .collect();
    let name = "winogrande_5shot_from_train_xs_(form_since_cf6a832,_NOT_the_leaderboard_train_xl)";
    assert_eq!(hash_of_requests(&kept), goldens[name][key]);
    assert_eq!(kept[0].context(), examples["winogrande_5shot_xs_doc0"][0]);
}

#[test]
fn texts_and_metrics_are_those_of_46c7966() {
    let Some(shared) = shared() else { return };
    let goldens = v04(&shared);
    for case in goldens["hellaswag_preprocess"].as_array().unwrap() {
        assert_eq!(hellaswag::clean(case[0].as_str().unwrap()), case[1]);
    }
    for case in goldens["python_capitalize"].as_array().unwrap() {
        assert_eq!(capitalize(case[0].as_str().unwrap()), case[1]);
    }
    for case in goldens["acc_norm_cases"].as_array().unwrap() {
        let likely: Vec<f64> = numbers(&case["lls"]);
        let choices: Vec<String> = numbers(&case["choices"]);
        let gold = case["gold"].as_u64().unwrap() as usize;
        let right = |pick: Vec<f64>| f64::from(metrics::argmax(&pick) == gold);
        assert_eq!(right(likely.clone()), case["acc"]);
        assert_eq!(
            right(metrics::by_length(&likely, &choices)),
            case["acc_norm"]
        );
        assert_eq!(
            right(metrics::by_bytes(&likely, &choices)),
            case["acc_bytes"]
        );
    }
    for case in goldens["mc2_cases"].as_array().unwrap() {
        let likely: Vec<f64> = numbers(&case["lls"]);
        let labels: Vec<u8> = numbers(&case["labels"]);
        let targets = Targets {
            choices: vec![String::new(); labels.len()],
            labels: labels.into_iter().map(|label| label == 1).collect(),
        };
        for (convention, key) in [
            (Convention::H3, "until_2025_03"),
            (Convention::H4, "until_2025_03"),
            (Convention::H5, "since_2c8ffb804"),
        ] {
            let found = metrics::truth(&likely, &targets, convention);
            match case[key].as_f64() {
                Some(expected) => assert!((found.unwrap() - expected).abs() < 1e-15),
                None => assert!(found.is_err(), "the reference has NaN"),
            }
        }
    }
    let case = &goldens["stderr_case"];
    let values: Vec<f64> = numbers(&case["values"]);
    assert_eq!(metrics::mean(&values).unwrap(), case["mean"]);
    assert_eq!(metrics::standard_error(&values).unwrap(), case["stderr"]);

    let case = &goldens["group_case"];
    let part = |it: &Value| Part {
        mean: it["acc"].as_f64().unwrap(),
        standard_error: it["stderr"].as_f64().unwrap(),
        size: it["n"].as_u64().unwrap() as usize,
    };
    let parts: Vec<Part> = case["subtasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(part)
        .collect();
    let near = |found: Option<f64>, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        assert!(
            (found.unwrap() - expected).abs() < 1e-15,
            "{found:?}, not {expected}"
        );
    };
    near(groups::weighted_mean(&parts), &case["at_46c7966"]["acc"]);
    near(groups::unweighted_mean(&parts), &case["unweighted_mean"]);
    near(
        groups::pooled_standard_error(&parts),
        &case["since_620d6a152"]["stderr"],
    );
    near(
        groups::standard_error_at_46c7966(&parts),
        &case["at_46c7966"]["stderr"],
    );

    for case in goldens["gsm8k_answer_cases"].as_array().unwrap() {
        let [completion, reference] =
            ["completion", "reference"].map(|key| case[key].as_str().unwrap());
        for (rule, key) in [
            (Extraction::GetAnswer, "at_46c7966"),
            (Extraction::StrictMatch, "v0_4_2_strict"),
            (Extraction::FlexibleExtract, "v0_4_2_flexible"),
        ] {
            let answer = rule.answer(completion);
            assert_eq!(answer, case[key]["filtered"], "{completion:?} by {rule:?}");
            let right = f64::from(rule.is_right(&answer, reference));
            assert_eq!(
                right, case[key]["exact_match"],
                "{completion:?} by {rule:?}"
            );
        }
    }
}

/// The responses that the harness's regression test makes up: `-random.random()` from
/// `random.seed(42)`, request after request, and the completion `lol`.
fn made_up(items: &[Item]) -> Vec<Response> {
    let mut rng = PythonRandom::new(42);
    let response = |item: &Item| match &item.requests {
        Requests::Completion { .. } => Response::Completion("lol".to_owned()),
        Requests::Likelihoods(requests) => {
            let likelihood = |_| Likelihood {
                log_likelihood: -rng.random(),
                is_greedy: false,
            };
            Response::Likelihoods(requests.iter().map(likelihood).collect())
        }
    };
    items.iter().map(response).collect()
}

#[test]
fn requests_and_metrics_are_those_of_v0_3_0() {
    let Some(shared) = shared() else { return };
    let goldens = json(&shared.join("benchmarks/lm_eval_v0.3.0_goldens.json"));
    let convention = Convention::V030;
    for (name, golden) in goldens.as_object().unwrap() {
        let name = name.split_once("-v").unwrap().0;
        let task = match name.strip_prefix("hendrycksTest-") {
            Some(subject) => one(&format!("mmlu_{subject}")),
            None => one(name),
        };
        let documents = documents(&shared, task, task.split(), convention);
        let items = items(task, convention, 0, documents, &[]);
        assert_eq!(items.len() as u64, golden["n_docs"].as_u64().unwrap());
        let asked: usize = items.iter().map(|it| it.requests.len()).sum();
        assert_eq!(asked as u64, golden["n_requests"].as_u64().unwrap());
        assert_eq!(
            hash_of_requests(requests(&items)),
            golden["sha256"],
            "{name}"
        );

        let responses = made_up(&items);
        for (metric, expected) in golden["result"].as_object().unwrap() {
            if metric.ends_with("_stderr") {
                continue;
            }
            // GSM8K's accuracy has another name there.
            let ours = if task == Task::Gsm8k {
                metrics::EXACT_MATCH
            } else {
                metric
            };
            let values: Vec<f64> = items
                .iter()
                .zip(&responses)
                .map(|(item, response)| {
                    let scores = scores(&item.document, response, convention);
                    let score = scores.into_iter().find(|it| it.metric == ours);
                    score.expect("the metric is there").value.unwrap()
                })
                .collect();
            let (mean, error) = (metrics::mean(&values), metrics::standard_error(&values));
            let expected_error = &golden["result"][&format!("{metric}_stderr")];
            for (found, expected) in [(mean, expected), (error, expected_error)] {
                let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
                assert!(
                    (found - expected).abs() < 1e-14,
                    "{name} {metric}: {found}, not {expected}"
                );
            }
        }
    }
}
