//! Answers of judges on disk: a file for each call, named by the hash of all that can move its
//! answer.

use super::failure::Attempt;
use super::key::CallKey;
use super::reply::Reply;
use crate::{Result, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder of answers.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// The answer to a call, as its file keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// All that can move the answer.
    pub identity: Value,
    /// The body as the server sent it, without the API key if it held it.
    pub raw: String,
    /// The time at which it came, in seconds since 1970.
    pub received: f64,
    /// The server's name for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The answer as the caller's parser read it.
    pub parsed: Value,
    pub attempts: Vec<Attempt>,
}

/// The result of a search.
#[derive(Debug)]
pub enum Found {
    Entry(Box<Entry>, Reply),
    Absent,
    /// A file that cannot be read as the answer to this call.
    Damaged,
}

impl Cache {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a call's answer.
    pub fn path(&self, key: &CallKey) -> PathBuf {
        let (shelf, _) = key.blake3.split_at(2);
        self.folder.join(shelf).join(format!("{}.json", key.blake3))
    }

    /// Searches the answer of a call.
    pub fn find(&self, key: &CallKey) -> Found {
        let Ok(text) = std::fs::read(self.path(key)) else {
            return Found::Absent;
        };
        let entry: Option<Entry> = serde_json::from_slice(&text).ok();
        let sound = entry.filter(|entry| entry.identity == key.identity);
        match sound.map(|entry| (Reply::parse(&entry.raw), entry)) {
            Some((Ok(reply), entry)) => Found::Entry(Box::new(entry), reply),
            _ => Found::Damaged,
        }
    }

    /// Keeps the answer of a call.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn keep(&self, key: &CallKey, entry: &Entry) -> Result<()> {
        let path = self.path(key);
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        files::replace(&path, &files::to_json(entry, &path)?)
    }

    /// Keeps the log of a call that was given up, until it is answered.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn keep_failure(&self, key: &CallKey, attempts: &[Attempt]) -> Result<()> {
        let path = self.failure_path(key);
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        files::replace(&path, &files::to_json(&attempts, &path)?)
    }

    /// Takes the log of a call that was given up before.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn take_failure(&self, key: &CallKey) -> Result<Vec<Attempt>> {
        let path = self.failure_path(key);
        let Ok(text) = std::fs::read(&path) else {
            return Ok(Vec::new());
        };
        files::remove_file(&path)?;
        // A damaged log costs nothing but itself.
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn failure_path(&self, key: &CallKey) -> PathBuf {
        self.path(key).with_extension("failed.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(identity: Value) -> CallKey {
        let blake3 = blake3::hash(identity.to_string().as_bytes())
            .to_hex()
            .to_string();
        CallKey { identity, blake3 }
    }

    fn entry(key: &CallKey) -> Entry {
        Entry {
            identity: key.identity.clone(),
            raw: json!({"choices": [{"message": {"content": "[[7]]"}}]}).to_string(),
            received: 1.5,
            request_id: None,
            parsed: json!(7),
            attempts: vec![],
        }
    }

    #[test]
    fn an_answer_is_found_by_what_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("new"));
        let (asked, other) = (key(json!({"a": 1})), key(json!({"a": 2})));
        assert!(matches!(cache.find(&asked), Found::Absent));
        cache.keep(&asked, &entry(&asked)).unwrap();
        match cache.find(&asked) {
            Found::Entry(found, reply) => {
                assert_eq!((*found, reply.text()), (entry(&asked), "[[7]]"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(cache.find(&other), Found::Absent));
        // The answer of another call under this name, and files that are not whole.
        let path = cache.path(&asked);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, serde_json::to_vec(&entry(&other)).unwrap()).unwrap();
        assert!(matches!(cache.find(&asked), Found::Damaged));
        for length in [0, 1, whole.len() / 2] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(cache.find(&asked), Found::Damaged), "{length}");
        }
    }

    #[test]
    fn the_log_of_a_failure_is_kept_until_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, key) = (Cache::new(folder.path()), key(json!(1)));
        let attempt = Attempt {
            number: 1,
            status: Some(500),
            failure: Some(super::super::FailureKind::Down),
            detail: None,
            seconds: 0.5,
            pause: None,
        };
        cache
            .keep_failure(&key, std::slice::from_ref(&attempt))
            .unwrap();
        assert_eq!(cache.take_failure(&key).unwrap(), [attempt]);
        assert_eq!(cache.take_failure(&key).unwrap(), []);
    }
}
