//! Claims: a record for other nodes of the attempt that computes a stage. One file per attempt,
//! rewritten while the attempt lives.
//!
//! `claims/<key>.<number>` is created whole, only if its name is free, and with a number above all
//! earlier ones. The attempt with the highest number holds the stage. `claims/<key>.<number>.over`
//! says that the attempt is over, and in a word how. Numbers grow until the stage is finished; then all its claims are
//! removed.

use super::end::{End, Ended};
use super::holder::Holder;
use super::key::StageKey;
use super::lock::StageLock;
use super::store::Store;
use crate::error::Result;
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Seconds without a sign of life after which an attempt on another node counts as over.
pub const SILENCE_ENV: &str = "TOUCHSTONE_SILENCE_SECONDS";
const SILENCE: f64 = 90.0;
/// Signs of life that an attempt gives within the time set by [`SILENCE_ENV`].
pub(super) const BEATS: f64 = 9.0;

/// How long a claim must stay unchanged before it counts as given up.
pub(super) fn silence() -> Duration {
    let seconds = std::env::var(SILENCE_ENV)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(SILENCE);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs_f64(SILENCE))
}

/// The contents of a claim.
#[derive(Serialize, Deserialize)]
struct Record {
    attempt: String,
    /// [`StageLock::realm`] of the attempt.
    realm: Option<String>,
    beat: u64,
    /// Absent in claims of earlier programs, which ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
}

impl Record {
    /// The record as bytes, always of the same length, so that it can be rewritten in place: a
    /// reader never finds the file empty, and the rewrite needs no space on a full disk.
    fn bytes(&self) -> Vec<u8> {
        const LENGTH: usize = 639;
        // Strings and a number always become JSON.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{text:LENGTH$}\n").into_bytes()
    }
}

/// One attempt's hold on a stage. Dropping it marks the attempt as over.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    key: StageKey,
    number: u64,
    attempt: String,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
    settled: bool,
}

impl Claim {
    /// A random name that no other attempt has.
    pub(super) fn attempt(&self) -> &str {
        &self.attempt
    }

    /// True if others have declared this attempt over: a later attempt holds the stage, has held
    /// it, or may hold it.
    pub(super) fn is_given_up(&self) -> bool {
        let own = Claims {
            highest: Some(self.number),
            over: false,
        };
        Claims::of(&self.folder, &self.key).is_ok_and(|claims| claims != own)
    }

    /// Removes this claim and all before it: the artifact is there, so that nobody needs them any
    /// more.
    pub(crate) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            let _ = heart.join();
        }
        // If this fails, the released lock or the silence of the claim says the same.
        if self.settled {
            let _ = remove(&self.folder, &self.key, self.number);
        } else {
            let _ = say_over(&self.folder, &self.key, self.number, End::Failed);
        }
    }
}

/// The state of one stage's claims, read from the names in the folder.
#[derive(Debug, Default, PartialEq)]
struct Claims {
    /// Number of the newest attempt.
    highest: Option<u64>,
    /// True if the newest attempt is known to be over.
    over: bool,
}

impl Claims {
    fn of(folder: &Path, key: &StageKey) -> Result<Self> {
        let mut claims = Self::default();
        for (number, over) in numbers(folder, key)?.into_iter() {
            if claims.highest < Some(number) {
                claims = Self {
                    highest: Some(number),
                    over: false,
                };
            }
            claims.over |= over && claims.highest == Some(number);
        }
        Ok(claims)
    }
}

/// The number of every claim on `key`, with a flag that is true for a name that marks the attempt
/// as over.
fn numbers(folder: &Path, key: &StageKey) -> Result<Vec<(u64, bool)>> {
    let prefix = format!("{key}.");
    let parse = |name: &String| {
        let rest = name.strip_prefix(&prefix)?;
        Some(match rest.strip_suffix(".over") {
            Some(number) => (number.parse().ok()?, true),
            None => (rest.parse().ok()?, false),
        })
    };
    Ok(files::names_in(folder)?.iter().filter_map(parse).collect())
}

/// Removes the claims on `key` up to `number`; their end marks go last, so that no attempt seems
/// alive again in between.
fn remove(folder: &Path, key: &StageKey, number: u64) -> Result<()> {
    let mut found = numbers(folder, key)?;
    found.sort_by_key(|(_, over)| *over);
    for (number, over) in found.into_iter().filter(|(found, _)| *found <= number) {
        files::remove_file(&path_of(folder, key, number, over))?;
    }
    Ok(())
}

/// Marks an attempt as over; an earlier mark stays.
fn say_over(folder: &Path, key: &StageKey, number: u64, end: End) -> Result<()> {
    let path = path_of(folder, key, number, true);
    match files::create_new(&path, end.word().as_bytes()) {
        // A full disk may still have room for a name, and the name is what matters.
        Err(error) => File::create_new(&path).map(|_| ()).map_err(|_| error),
        Ok(_) => Ok(()),
    }
}

fn read_record(folder: &Path, key: &StageKey, number: u64) -> Option<Record> {
    let bytes = fs::read(path_of(folder, key, number, false)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The ends of the attempts at `key`, by number. An attempt without a mark counts as lost.
pub(super) fn ended(folder: &Path, key: &StageKey) -> Result<Vec<Ended>> {
    let mut attempts: BTreeMap<u64, bool> = BTreeMap::new();
    for (number, over) in numbers(folder, key)? {
        *attempts.entry(number).or_default() |= over;
    }
    let end = |number, over| match fs::read_to_string(path_of(folder, key, number, true)) {
        Ok(word) if over => End::of_word(&word),
        _ => End::Lost,
    };
    Ok(attempts
        .into_iter()
        .map(|(number, over)| Ended {
            holder: read_record(folder, key, number).and_then(|record| record.holder),
            end: end(number, over),
        })
        .collect())
}

/// Marks the newest claim on the stage of `lock` as over if `process`, which ran under this lock,
/// made it.
pub(super) fn mark(folder: &Path, lock: &StageLock, process: u32, end: End) -> Result<()> {
    let key = lock.key();
    let Some(number) = Claims::of(folder, &key)?.highest else {
        return Ok(());
    };
    let own = read_record(folder, &key, number).is_some_and(|record| {
        let maker = record.holder.map(|holder| (holder.host, holder.process));
        record.realm == lock.realm() && maker == Some((Holder::here(None).host, process))
    });
    if own {
        say_over(folder, &key, number, end)?;
    }
    Ok(())
}

fn path_of(folder: &Path, key: &StageKey, number: u64, over: bool) -> PathBuf {
    folder.join(format!("{key}.{number}{}", if over { ".over" } else { "" }))
}

/// Observations by one process of other nodes' claims: their bytes, and since when these have not
/// changed by its own clock. The clocks of two nodes are never compared.
#[derive(Debug)]
pub struct Watch {
    silence: Duration,
    seen: HashMap<PathBuf, (Vec<u8>, Instant)>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self::with(silence())
    }

    pub(super) fn with(silence: Duration) -> Self {
        Self {
            silence,
            seen: HashMap::new(),
        }
    }

    /// True if an attempt that may be alive holds the stage of `lock`.
    pub(super) fn sees_holder(&mut self, store: &Store, lock: &StageLock) -> Result<bool> {
        Ok(self.next_number(store, lock)?.is_none())
    }

    /// The number for the next claim: one above the newest, if that one is over. `None` if the
    /// newest may be alive.
    fn next_number(&mut self, store: &Store, lock: &StageLock) -> Result<Option<u64>> {
        let (folder, key) = (store.claims(), lock.key());
        let Claims {
            highest: Some(number),
            over,
        } = Claims::of(&folder, &key)?
        else {
            return Ok(Some(0));
        };
        if over || self.is_over(&folder, number, lock)? {
            Ok(Some(number + 1))
        } else {
            Ok(None)
        }
    }

    /// True if the attempt whose claim has this number is over although it did not mark its end.
    fn is_over(&mut self, folder: &Path, number: u64, lock: &StageLock) -> Result<bool> {
        let path = path_of(folder, &lock.key(), number, false);
        let bytes = match fs::read(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|cause| files::failed("read", &path, cause))?,
        };
        // The process that held this lock before has ended.
        let realm = serde_json::from_slice::<Record>(&bytes)
            .ok()
            .and_then(|record| record.realm);
        if realm.is_some() && realm == lock.realm() {
            return Ok(true);
        }
        match self.seen.get(&path) {
            Some((before, since)) if *before == bytes => {
                let silent = since.elapsed() >= self.silence;
                if silent {
                    say_over(folder, &lock.key(), number, End::Lost)?;
                }
                Ok(silent)
            }
            _ => {
                self.seen.insert(path, (bytes, Instant::now()));
                Ok(false)
            }
        }
    }
}

impl Store {
    /// Claims the stage of `lock` for `holder`, this process; `None` if another attempt that may be
    /// alive has it.
    pub(crate) fn claim(
        &self,
        lock: &StageLock,
        watch: &mut Watch,
        holder: Holder,
    ) -> Result<Option<Claim>> {
        let (folder, key) = (self.claims(), lock.key());
        let Some(number) = watch.next_number(self, lock)? else {
            return Ok(None);
        };
        let attempt = format!(
            "{:016x}",
            RandomState::new().hash_one((std::process::id(), SystemTime::now()))
        );
        let mut record = Record {
            attempt: attempt.clone(),
            realm: lock.realm(),
            beat: 0,
            holder: Some(holder),
        };
        let path = path_of(&folder, &key, number, false);
        if !files::create_new(&path, &record.bytes())? {
            return Ok(None);
        }
        let pause = watch.silence.div_f64(BEATS);
        let (stop, stopped) = mpsc::channel();
        // A separate thread that waits for no disk, so that an attempt never seems dead because it
        // computes or syncs.
        let heart = std::thread::spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                record.beat += 1;
                // A beat that fails is made up for by the next one.
                let _ = File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|mut file| file.write_all(&record.bytes()));
            }
        });
        Ok(Some(Claim {
            folder,
            key,
            number,
            attempt,
            heart: Some((stop, heart)),
            settled: false,
        }))
    }

    /// True if another process, on this machine or on another node, may be computing `key` now.
    pub(crate) fn is_taken(&self, key: &StageKey, watch: &mut Watch) -> Result<bool> {
        match self.try_lock(key)? {
            Some(lock) => watch.sees_holder(self, &lock),
            None => Ok(true),
        }
    }

    /// True if a process on another node may be computing `key` now.
    pub(crate) fn is_claimed(&self, key: &StageKey, watch: &mut Watch) -> Result<bool> {
        self.try_lock(key)?
            .map_or(Ok(false), |lock| watch.sees_holder(self, &lock))
    }

    pub(super) fn claims(&self) -> PathBuf {
        self.root().join("claims")
    }
}
