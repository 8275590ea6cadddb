//! Tests that `docs/invariances.md` is up to date: every test that it names exists and is run, and
//! no point lacks a test.

use std::fs;
use std::path::Path;

const POINTS: usize = 13;

/// True if `text` contains a function called `name` that is a test.
fn has_test(text: &str, name: &str) -> bool {
    let Some(place) = text.find(&format!("fn {name}(")) else {
        return false;
    };
    let above = text[..place]
        .lines()
        .rev()
        .map(str::trim)
        .skip_while(|line| line.is_empty());
    let mut attributes = above.take_while(|line| line.starts_with('#') || line.starts_with("//"));
    attributes.any(|line| line == "#[test]")
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/invariances.md")).unwrap();
    let mut sections = page.split("\n## ").skip(1);
    for point in 1..=POINTS {
        let section = sections
            .next()
            .unwrap_or_else(|| panic!("the page has no point {point}"));
        assert!(
            section.starts_with(&format!("{point}. ")),
            "point {point} is not `{}`",
            section.lines().next().unwrap()
        );
        // Every second piece is the text between backticks.
        let code = section.split('`').skip(1).step_by(2);
        let named: Vec<(&str, &str)> = code.filter_map(|code| code.split_once("::")).collect();
        assert!(!named.is_empty(), "point {point} names no test");
        for (file, test) in named {
            let text = fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(
                has_test(&text, test),
                "point {point}: {file} has no test {test}"
            );
        }
    }
}
