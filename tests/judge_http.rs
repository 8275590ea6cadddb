//! Tests of hosted judges against a server on this machine: requests, retries, faults, cache,
//! account and secrets.
#![cfg(feature = "http")]

mod judge_server;

use judge_server::{Server, Turn, completion, nobody};
use miette::Diagnostic;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use touchstone::data::rows::Response;
use touchstone::judges::http::{
    Account, Asking, Cache, Call, ChatSampling, JudgeServer, KEY_VARIABLE, Message, Outcome,
    Patience, Prices, Reply, ServerSettings, Template,
};
use touchstone::judges::{JudgeId, Prompt, Row, Sources};
use touchstone::model::checkpoint::Normalisation;
use touchstone::model::{LanguageModel, RewardModel};
use touchstone::{Error, ErrorKind, Result};

const PARSER: &str = "length/1";

fn judge(base_url: &str, cache: &Path) -> JudgeServer {
    let settings = ServerSettings {
        base_url: base_url.to_owned(),
        model: "asked-name".to_owned(),
        sampling: ChatSampling::greedy(64),
    };
    let mut judge = JudgeServer::new(settings, Cache::new(cache));
    judge.patience = Patience {
        tries: 3,
        first_pause: Duration::from_millis(5),
        timeout: Duration::from_millis(400),
        ..Patience::default()
    };
    judge
}

fn calls(count: usize) -> Vec<Call> {
    let call = |index| Call {
        name: format!("item {index}"),
        messages: vec![
            Message::system("rules"),
            Message::user(format!("question {index}")),
        ],
        template: Template::new("t", &["rules", "question {}"]),
        repetition: 0,
    };
    (0..count).map(call).collect()
}

fn ask(judge: &JudgeServer, calls: &[Call]) -> Result<(Vec<Outcome>, Account)> {
    let asking = Asking {
        parser: PARSER,
        parse: &|reply: &Reply| json!(reply.text().len()),
        progress: &mut |_| (),
    };
    judge.ask(calls, asking)
}

/// The answers' texts and the reasons for missing ones.
fn told(outcomes: &[Outcome]) -> Vec<String> {
    let told = |outcome: &Outcome| match outcome {
        Ok(answer) => answer.reply.text().to_owned(),
        Err(reason) => format!("missing: {reason}"),
    };
    outcomes.iter().map(told).collect()
}

/// The error of one call, in all its parts, and the number of requests that it took.
fn error_of(turns: Vec<Turn>, otherwise: Turn) -> (String, usize) {
    let (server, folder) = (
        Server::start(turns, move |_| otherwise.clone()),
        TempDir::new().unwrap(),
    );
    let error = ask(&judge(&server.base_url(), folder.path()), &calls(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    (in_full(&error), server.seen().len())
}

fn in_full(error: &touchstone::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let hint = error.help().map(|hint| hint.to_string());
    format!(
        "{error}\n{}\n{}",
        cause.unwrap_or_default(),
        hint.unwrap_or_default()
    )
}

/// The whole text of all files below a folder.
fn files_below(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        text += &match path.is_dir() {
            true => files_below(&path),
            false => std::fs::read_to_string(path).unwrap(),
        };
    }
    text
}

fn status(code: u16) -> Turn {
    Turn::Status(
        code,
        vec![],
        json!({"error": {"message": "words"}}).to_string(),
    )
}

fn busy(after: &str) -> Turn {
    Turn::Status(429, vec![("Retry-After", after.to_owned())], String::new())
}

fn quota() -> Turn {
    let body = json!({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}});
    Turn::Status(429, vec![], body.to_string())
}

#[test]
fn answers_come_in_the_order_of_the_calls_with_bounded_concurrency() {
    let server = Server::start([], |body| {
        let question = body["messages"][1]["content"].as_str().unwrap().to_owned();
        Turn::Say(format!("answer to {question}"))
    });
    let folder = TempDir::new().unwrap();
    let mut judge = judge(&server.base_url(), folder.path());
    judge.concurrency = 3;
    judge.prices = Some(Prices {
        prompt: 1.0,
        completion: 10.0,
    });
    let (outcomes, account) = ask(&judge, &calls(12)).unwrap();
    let expected: Vec<String> = (0..12)
        .map(|index| format!("answer to question {index}"))
        .collect();
    assert_eq!(told(&outcomes), expected);
    assert_eq!(server.most_under_way(), 3);
    assert_eq!(
        (account.calls, account.asked, account.from_cache),
        (12, 12, 0)
    );
    assert_eq!(
        (account.new_tokens.prompt, account.new_tokens.completion),
        (120, 36)
    );
    assert!((account.new_tokens.cost(judge.prices.unwrap()) - 0.00048).abs() < 1e-12);
    assert_eq!(account.models["resolved-name"], 12);
    assert_eq!(account.finish_reasons["stop"], 12);
    let seen = server.seen();
    assert_eq!(seen[0].path, "/v1/chat/completions");
    assert_eq!(seen[0].authorization, None);
    let mut fields: Vec<_> = seen[0].body.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "max_tokens",
            "messages",
            "model",
            "n",
            "seed",
            "stream",
            "temperature",
            "top_p"
        ]
    );
}

#[test]
fn a_second_run_asks_nothing_and_equal_calls_are_asked_once() {
    let (server, folder) = (Server::saying("same"), TempDir::new().unwrap());
    let judge = judge(&server.base_url(), folder.path());
    let mut twice = calls(3);
    twice.extend(calls(3));
    let (outcomes, account) = ask(&judge, &twice).unwrap();
    assert_eq!(
        (server.seen().len(), account.asked, account.from_cache),
        (3, 3, 3)
    );
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.as_ref().unwrap().parsed == json!(4))
    );
    let (again, account) = ask(&judge, &twice).unwrap();
    assert_eq!((again, server.seen().len()), (outcomes, 3));
    assert_eq!((account.asked, account.from_cache), (0, 6));
    assert_eq!(
        (account.new_tokens.prompt, account.all_tokens.prompt),
        (0, 60)
    );
    assert_eq!(judge.cached(&twice, PARSER), 6);
    // Repetitions are asked one by one, each with a seed of its own.
    let repeated: Vec<Call> = (1..3)
        .map(|repetition| Call {
            repetition,
            ..calls(1).remove(0)
        })
        .collect();
    ask(&judge, &repeated).unwrap();
    let mut seeds: Vec<Value> = server.seen()[3..]
        .iter()
        .map(|seen| seen.body["seed"].clone())
        .collect();
    seeds.sort_by_key(Value::as_u64);
    assert_eq!(seeds, [json!(1), json!(2)]);
}

#[test]
fn an_answer_of_another_parser_or_a_damaged_one_is_not_taken() {
    let (server, folder) = (Server::saying("same"), TempDir::new().unwrap());
    let judge = judge(&server.base_url(), folder.path());
    ask(&judge, &calls(1)).unwrap();
    let asking = Asking {
        parser: PARSER,
        parse: &|_| json!("other"),
        progress: &mut |_| (),
    };
    let error = judge.ask(&calls(1), asking).unwrap_err();
    assert_eq!(
        error.to_string(),
        "item 0: the parser length/1 reads \"other\" in an answer in which it read 4 before"
    );
    let shelf = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = std::fs::read_dir(shelf)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(&file, "{\"identity\": ").unwrap();
    let (_, account) = ask(&judge, &calls(1)).unwrap();
    assert_eq!(
        (account.damaged, account.asked, server.seen().len()),
        (1, 1, 2)
    );
}

#[test]
fn failures_that_pass_are_asked_again_and_logged() {
    let (server, folder) = (Server::saying("[[7]]"), TempDir::new().unwrap());
    let turns = [
        vec![busy("0.2"), status(500)],
        vec![Turn::HangUp, status(503)],
        vec![
            Turn::CutOff("{\"choices\"".into()),
            Turn::Body("{\"choices\": [{\"mess".into()),
        ],
        vec![
            Turn::Silence(Duration::from_millis(900)),
            Turn::SlowBody(Duration::from_millis(900)),
        ],
    ];
    let judge = judge(&server.base_url(), folder.path());
    for (index, turns) in turns.into_iter().enumerate() {
        server.plan(turns);
        let begun = Instant::now();
        let (outcomes, account) = ask(&judge, &calls(index + 1)[index..]).unwrap();
        assert_eq!(told(&outcomes), ["[[7]]"]);
        assert_eq!((account.retries, account.missing), (2, 0));
        assert!(
            index > 0 || begun.elapsed() >= Duration::from_millis(200),
            "Retry-After is kept"
        );
    }
    let logs = files_below(folder.path());
    for kind in ["busy", "down", "broken", "late"] {
        assert!(
            logs.contains(&format!("\"failure\": \"{kind}\"")),
            "{kind}: {logs}"
        );
    }
}

#[test]
fn a_date_to_wait_for_is_kept() {
    let (server, folder) = (Server::saying("x"), TempDir::new().unwrap());
    let soon = chrono::DateTime::<chrono::Utc>::from(
        std::time::SystemTime::now() + Duration::from_secs(2),
    );
    server.plan([busy(&soon.format("%a, %d %b %Y %H:%M:%S GMT").to_string())]);
    let begun = Instant::now();
    ask(&judge(&server.base_url(), folder.path()), &calls(1)).unwrap();
    // The date has whole seconds.
    assert!(
        begun.elapsed() >= Duration::from_millis(950),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn failures_that_stay_are_given_up_after_the_declared_tries() {
    for (turn, told, requests) in [
        (busy("0"), "too many requests (429)", 3),
        (status(500), "the server failed (500): words", 3),
        (
            Turn::Body("{\"choices\": [".into()),
            "the answer broke off: the body is not JSON",
            3,
        ),
        (
            Turn::SlowBody(Duration::from_millis(900)),
            "no answer in time",
            3,
        ),
        (busy("100000"), "too many requests (429)", 1),
        (
            quota(),
            "no quota left (429): You exceeded your current quota",
            1,
        ),
        (status(400), "the request was refused (400): words", 1),
        (status(401), "not allowed (401): words", 1),
        (status(403), "not allowed (403): words", 1),
        (status(404), "not found (404): words", 1),
        (status(422), "the request was refused (422): words", 1),
        (
            Turn::Body("{\"object\": \"error\"}".into()),
            "an answer without a choice",
            1,
        ),
        (
            Turn::Status(
                308,
                vec![("Location", "https://elsewhere/v1".into())],
                String::new(),
            ),
            "the server sends on to https://elsewhere/v1; give that as the base URL",
            1,
        ),
    ] {
        let (error, count) = error_of(vec![], turn);
        assert!(error.contains(told), "{told}: {error}");
        assert_eq!(count, requests, "{told}");
    }
}

#[test]
fn no_server_is_an_error_that_says_so() {
    let folder = TempDir::new().unwrap();
    let error = ask(&judge(&nobody(), folder.path()), &calls(1)).unwrap_err();
    let told = in_full(&error);
    assert!(
        told.contains("no connection") && told.contains("check that the server runs"),
        "{told}"
    );
    assert!(told.contains("0 of 1 answers"), "{told}");
}

#[test]
fn answers_without_text_are_results_and_are_counted() {
    let (server, folder) = (Server::saying("x"), TempDir::new().unwrap());
    server.plan([
        Turn::Body(completion(Value::Null, "content_filter")),
        Turn::Body(completion(json!(""), "length")),
        Turn::Body(json!({"choices": [{"message": {"content": "[[3]]"}}]}).to_string()),
    ]);
    let mut judge = judge(&server.base_url(), folder.path());
    judge.concurrency = 1;
    let (outcomes, account) = ask(&judge, &calls(3)).unwrap();
    assert_eq!(told(&outcomes), ["", "", "[[3]]"]);
    assert_eq!((account.empty, account.retries), (2, 0));
    let reasons = json!(account.finish_reasons);
    assert_eq!(
        reasons,
        json!({"content_filter": 1, "length": 1, "not given": 1})
    );
    assert_eq!(account.new_tokens.replies_without_usage, 1);
}

#[test]
fn missing_calls_are_named_and_end_the_run_above_the_declared_share() {
    let refuse_second = |body: &Value| match body["messages"][1]["content"] == "question 1" {
        true => status(400),
        false => Turn::Say("x".into()),
    };
    let (server, folder) = (Server::start([], refuse_second), TempDir::new().unwrap());
    let mut judge = judge(&server.base_url(), folder.path());
    let error = in_full(&ask(&judge, &calls(4)).unwrap_err());
    assert!(error.contains("has not answered item 1"), "{error}");
    judge.most_missing = 0.25;
    let (outcomes, account) = ask(&judge, &calls(4)).unwrap();
    let expected = [
        "x",
        "missing: the request was refused (400): words",
        "x",
        "x",
    ];
    assert_eq!(told(&outcomes), expected);
    assert_eq!(account.missing, 1);
    judge.most_missing = 0.24;
    assert!(ask(&judge, &calls(4)).is_err());
    judge.most_missing = 1.5;
    assert_eq!(
        ask(&judge, &calls(4)).unwrap_err().kind(),
        ErrorKind::Configuration
    );
}

#[test]
fn a_failure_that_concerns_every_call_ends_the_run_at_once() {
    let (server, folder) = (Server::start([], |_| quota()), TempDir::new().unwrap());
    let mut judge = judge(&server.base_url(), folder.path());
    (judge.most_missing, judge.concurrency) = (1.0, 2);
    let error = in_full(&ask(&judge, &calls(50)).unwrap_err());
    assert!(error.contains("no quota left"), "{error}");
    assert!(server.seen().len() <= 3, "{}", server.seen().len());
}

#[test]
fn a_run_that_was_stopped_goes_on_with_what_is_there() {
    let server = Server::start((0..4).map(|_| Turn::Say("x".into())), |_| status(401));
    let folder = TempDir::new().unwrap();
    let mut judge = judge(&server.base_url(), folder.path());
    judge.concurrency = 1;
    let error = in_full(&ask(&judge, &calls(6)).unwrap_err());
    assert!(error.contains("4 of 6 answers are in"), "{error}");
    let server = Server::saying("y");
    judge.settings.base_url = server.base_url();
    judge.scope = touchstone::judges::http::Scope::Any;
    // Another server is another judge unless any server will do, from the first run on.
    assert_eq!(ask(&judge, &calls(6)).unwrap().1.asked, 6);
    assert_eq!(ask(&judge, &calls(7)).unwrap().1.asked, 1);
}

/// The sources of a judge that reads no model.
struct NoModels;

impl Sources for NoModels {
    fn reward_model(&self) -> Result<(RewardModel, Normalisation)> {
        Err(Error::data("no reward model"))
    }

    fn policy(&self) -> Result<LanguageModel> {
        Err(Error::data("no policy"))
    }

    fn reference(&self) -> Result<LanguageModel> {
        Err(Error::data("no reference"))
    }

    fn seed(&self) -> Result<u64> {
        Err(Error::data("no seed"))
    }
}

/// The variables of judges in studies are set for a process of its own.
#[test]
fn a_study_has_a_hosted_judge_without_its_secret() {
    let name = "a_study_has_a_hosted_judge_without_its_secret";
    let folder = TempDir::new().unwrap();
    if std::env::var_os("TOUCHSTONE_JUDGE_CACHE").is_none() {
        let cache = folder.path().to_str().unwrap();
        return alone(
            name,
            &[
                (KEY_VARIABLE, "sk-hosted-secret"),
                ("TOUCHSTONE_JUDGE_CACHE", cache),
            ],
        );
    }
    let server = Server::start([], |body| {
        let asked = body["messages"][1]["content"].as_str().unwrap().to_owned();
        let score = if asked.contains("<response>\ngood\n</response>") {
            9
        } else {
            2
        };
        Turn::Say(format!("It is what it is.\nScore: {score}"))
    });
    let written = json!({"http": {
        "server": {
            "base_url": server.base_url(),
            "model": "m",
            "sampling": {"distribution": {"temperature": 0.0, "top_p": 1.0}, "max_tokens": 64, "limit": "max_tokens", "seed": 0},
        },
        "rubric": "quality-1",
    }});
    let id: JudgeId = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(json!(id), written);
    assert!(id.reads().is_empty());
    let response = |text: &str| Response {
        text: text.to_owned(),
        ids: vec![1],
        ended: true,
    };
    let (prompt, responses) = (Prompt::new("Say something."), ["bad", "good"].map(response));
    let rows: Vec<Row> = responses
        .iter()
        .map(|response| (&prompt, response))
        .collect();
    let judge = id.open(&NoModels).unwrap();
    assert_eq!(judge.scores(&rows).unwrap(), [2.0, 9.0]);
    assert_eq!(judge.scores(&rows).unwrap(), [2.0, 9.0]);
    let seen = server.seen();
    assert_eq!(
        (seen.len(), seen[0].authorization.as_deref()),
        (2, Some("Bearer sk-hosted-secret"))
    );
    // A judge that does not keep to the form gives no score, which is an error and not a number.
    let silent = Server::saying("Nice!");
    let other = json!(id)
        .to_string()
        .replace(&server.base_url(), &silent.base_url());
    let other: JudgeId = serde_json::from_str(&other).unwrap();
    let error = other.open(&NoModels).unwrap().scores(&rows).unwrap_err();
    assert!(
        in_full(&error).contains("its answer has no line `Score: N`"),
        "{}",
        in_full(&error)
    );
}

/// Runs one test in a process of its own with these variables, and checks that it does not print the
/// value of the first.
fn alone(test: &str, variables: &[(&str, &str)]) {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let told = [run.stdout, run.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
    let secret = variables[0].1;
    assert!(!told.contains(secret) && !told.contains("very/"), "{told}");
}

#[test]
fn the_key_is_sent_and_appears_nowhere_else() {
    let variable = "TOUCHSTONE_TEST_JUDGE_KEY";
    let secret = "sk-very/secret\"key\\1";
    // The variable is set for a process of its own, since other tests run beside this one.
    if std::env::var(variable).as_deref() != Ok(secret) {
        return alone(
            "the_key_is_sent_and_appears_nowhere_else",
            &[(variable, secret)],
        );
    }
    let folder = TempDir::new().unwrap();
    let server = Server::start([], |_| Turn::EchoKey);
    let mut judge = judge(&server.base_url(), folder.path());
    judge.key_variable = Some(variable.to_owned());
    let (outcomes, _) = ask(&judge, &calls(1)).unwrap();
    assert_eq!(told(&outcomes), ["Bearer [API key]"]);
    assert_eq!(
        server.seen()[0].authorization.as_deref(),
        Some(format!("Bearer {secret}").as_str())
    );
    // A server's refusal may hold the key too, in its words or in its headers.
    let words =
        json!({"error": {"message": format!("Incorrect API key provided: {secret}")}}).to_string();
    let place = format!("https://elsewhere/?key={secret}");
    for turn in [
        Turn::Status(401, vec![], words.clone()),
        Turn::Status(400, vec![], format!("not JSON: {secret}")),
        Turn::Status(307, vec![("Location", place.clone())], String::new()),
        Turn::Body(words.clone()),
        Turn::Body(format!("cut off {secret}")),
    ] {
        server.plan((0..3).map(|_| turn.clone()));
        let error = ask(&judge, &calls(2)[1..]).unwrap_err();
        let told = format!("{}{error:?}{judge:?}", in_full(&error));
        assert!(told.contains("[API key]"), "{told}");
        assert!(
            !told.contains("very/secret") && !told.contains("very\\/secret"),
            "{told}"
        );
        server.forget_turns();
    }
    let kept = files_below(folder.path());
    assert!(
        kept.contains("[API key]") && !kept.contains("secret"),
        "{kept}"
    );
    judge.key_variable = Some("TOUCHSTONE_TEST_NOT_SET".to_owned());
    let error = ask(&judge, &calls(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the environment variable TOUCHSTONE_TEST_NOT_SET is not set"
    );
}
