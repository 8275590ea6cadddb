//! The problems of `touchstone conformance`, written for `conformance.py`, which computes them in
//! float64.

use crate::cases::{pair, problem, sequence, update};
use crate::common::cpu;
use rand::Rng;
use serde_json::json;
use std::fs;
use std::path::Path;
use touchstone::conformance::policy_step;
use touchstone::conformance::problem::{NORMALISATION, SAMPLINGS, all};
use touchstone::model::weights::StoredAs;

/// Writes a folder per problem into the folder TOUCHSTONE_CONFORMANCE.
#[test]
#[ignore = "a program that conformance.py starts"]
fn write_problems() {
    let root =
        std::env::var("TOUCHSTONE_CONFORMANCE").expect("TOUCHSTONE_CONFORMANCE names a folder");
    for of in all() {
        let folder = Path::new(&root).join(of.name);
        fs::create_dir_all(&folder).unwrap();
        let policy = of.policy(&cpu()).unwrap();
        policy
            .weights()
            .write(&folder.join("policy.safetensors"), StoredAs::F32)
            .unwrap();
        of.reward(&policy)
            .weights()
            .write(&folder.join("reward.safetensors"), StoredAs::F32)
            .unwrap();

        let rows: Vec<_> = of.rows().iter().map(sequence).collect();
        let pairs: Vec<_> = of.pairs().iter().map(pair).collect();
        let step = policy_step(&of, &cpu()).unwrap();
        let settings = of.ppo_settings();
        let more = json!({
            "updates": [update(0, &step.rollouts, &settings, of.seed)],
            "floor": NORMALISATION.low - 1.0,
            "normalisation": NORMALISATION,
        });
        let uniforms = |item| {
            let mut stream = of.sample_stream(item);
            (0..of.sampling(1.0, 1.0).max_new_tokens)
                .map(|_| stream.random::<f32>())
                .collect::<Vec<_>>()
        };
        let prompts: Vec<_> = of
            .prompts()
            .iter()
            .enumerate()
            .map(|(item, ids)| json!({"prompt": ids, "uniforms": uniforms(item)}))
            .collect();
        let samplings = SAMPLINGS.map(|(temperature, top_p)| {
            json!({"name": format!("temperature {temperature}, top-p {top_p}"), "temperature": temperature, "top_p": top_p})
        });
        let text = json!({
            "sft": problem("sft", &policy, &of.sft_settings(), json!({"steps": [rows]})),
            "reward": problem("reward", &policy, &of.reward_settings(), json!({"steps": [pairs]})),
            "ppo": problem("ppo", &policy, &settings, more),
            "samples": {"prompts": prompts, "samplings": samplings, "eos": of.sampling(1.0, 1.0).ends.appended()},
        });
        fs::write(folder.join("problem.json"), text.to_string()).unwrap();
    }
}
