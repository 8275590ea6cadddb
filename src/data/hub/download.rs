//! The download of one file from the hub into the cache. Received bytes stay beside the blob until
//! all have come: the next try, the next run, and Python too, continue where they end. A file gets
//! its name only if its length and checksum are the announced ones.

use super::cache::{Shelf, make_parent};
use super::checksum::Checksum;
use super::failure::{Answer, Failure, HubRequest};
use super::http::{Announced, Http};
use super::progress::{Meter, say};
use crate::{Error, Result};
use indicatif::DecimalBytes;
use reqwest::Url;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// The number of consecutive tries without any bytes after which the hub is given up.
pub const TRIES: u32 = 6;
/// The first pause between tries; each is twice as long as the one before.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that a server may ask for; a longer one counts as a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The retries of a download and the pauses between them.
#[derive(Debug, Default)]
pub struct Patience {
    /// The number of failures since bytes last came.
    failures: u32,
}

impl Patience {
    /// Waits before the next try, after telling how long, or returns the failure if it is permanent
    /// or has lasted too long.
    pub fn wait(&mut self, failure: Failure, tell: impl FnOnce(&Failure, Duration)) -> Answer<()> {
        self.failures += 1;
        let pause = match failure {
            Failure::Busy {
                after: Some(after), ..
            } => after,
            _ => FIRST_PAUSE * 2_u32.pow(self.failures.min(TRIES) - 1),
        };
        if !failure.may_pass() || self.failures >= TRIES || pause > LONGEST_PAUSE {
            return Err(failure);
        }
        tell(&failure, pause);
        std::thread::sleep(pause);
        Ok(())
    }
}

/// A file to be downloaded into the cache.
pub struct Download<'a> {
    pub http: &'a Http,
    pub place: HubRequest<'a>,
    pub shelf: &'a Shelf,
    pub name: &'a str,
    pub url: &'a Url,
    pub announced: &'a Announced,
    /// Whether a terminal shows a progress bar.
    pub bar: bool,
}

/// The reason why bytes stopped coming.
enum Stop {
    Failure(Failure),
    /// An error on this side, which another try does not help.
    Error(Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Download<'_> {
    /// Downloads the whole blob, unless it is already there.
    pub fn run(&self) -> Result<()> {
        let etag = &self.announced.etag;
        let (blob, part) = (self.shelf.blob(etag), self.shelf.part(etag));
        if self.is_there(&blob) {
            return Ok(());
        }
        let waiting = || {
            say(&format!(
                "waiting for another process that fetches {} of {}",
                self.name, self.place
            ))
        };
        let _lock = self.shelf.lock(etag, waiting)?;
        if self.is_there(&blob) {
            return Ok(());
        }
        make_parent(&part)?;
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part);
        let mut file = options.map_err(|cause| self.place.unwritable(&part, cause))?;
        let mut earlier = self.length(&file, &part)?;
        if self.announced.size.is_some_and(|size| earlier > size) {
            earlier = 0;
            self.empty(&file, &part)?;
        }
        self.make_sure_of_room(earlier)?;
        let mut meter = Meter::new(
            format!("{} of {}", self.name, self.place),
            self.announced.size,
            earlier,
            self.bar,
        );
        self.fill(&mut file, &part, &mut meter)?;
        if let Some(how) = self.fault(&mut file, &part)? {
            if earlier == 0 {
                drop(file);
                return Err(self.discard(&part, &how));
            }
            // The bytes of an earlier run may be at fault: a crash can lose bytes that it had
            // written.
            meter.say(&format!("{} {how}; fetching all of it again", self.name));
            self.empty(&file, &part)?;
            self.fill(&mut file, &part, &mut meter)?;
            if let Some(how) = self.fault(&mut file, &part)? {
                drop(file);
                return Err(self.discard(&part, &how));
            }
        }
        // Synced before it gets its name, so that the file is whole even after a power failure.
        file.sync_all()
            .map_err(|cause| self.place.unwritable(&part, cause))?;
        drop(file);
        fs::rename(&part, &blob).map_err(|cause| self.place.unwritable(&blob, cause))
    }

    /// Whether the blob is there with the announced length; any other length makes it useless,
    /// whoever wrote it.
    fn is_there(&self, blob: &Path) -> bool {
        let length = fs::metadata(blob).map(|metadata| metadata.len());
        length.is_ok_and(|length| self.announced.size.is_none_or(|size| size == length))
    }

    /// Appends to `file` until all bytes have come.
    fn fill(&self, file: &mut File, part: &Path, meter: &mut Meter) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let before = self.length(file, part)?;
            if before > 0 && self.announced.size == Some(before) {
                return Ok(());
            }
            let pulled = self.http.wait(self.pull(file, part, before, meter));
            let now = self.length(file, part)?;
            let failure = match (pulled, self.announced.size) {
                (Ok(()), Some(size)) if now < size => {
                    Failure::Broken("the file ended too early".into())
                }
                (Ok(()), _) => return Ok(()),
                (Err(Stop::Error(error)), _) => return Err(error),
                (Err(Stop::Failure(failure)), _) => failure,
            };
            if now > before {
                patience = Patience::default();
            }
            let amount = meter.amount();
            let tell = |failure: &Failure, pause: Duration| {
                let pause = pause.as_secs_f64();
                meter.say(&format!(
                    "{}: stopped at {amount} ({}); on again in {pause} s",
                    self.name,
                    failure.detail()
                ));
            };
            if let Err(failure) = patience.wait(failure, tell) {
                return Err(self.place.explain(failure));
            }
        }
    }

    /// Makes one request: for the bytes from `have` on, or all of them if the server does not
    /// support ranges.
    async fn pull(
        &self,
        file: &mut File,
        part: &Path,
        have: u64,
        meter: &mut Meter,
    ) -> std::result::Result<(), Stop> {
        let unwritable = |cause| Stop::Error(self.place.unwritable(part, cause));
        let incoming = self.http.get(self.url, have).await?;
        if incoming
            .as_ref()
            .is_none_or(|incoming| incoming.from < have)
        {
            match self.announced.size {
                // There are no bytes after the received ones, and no size was announced, so the
                // file is complete.
                None if incoming.is_none() => return Ok(()),
                _ => self.empty(file, part).map_err(Stop::Error)?,
            }
            meter.set(0);
        }
        let mut incoming = incoming
            .ok_or_else(|| Failure::Broken(format!("there are no bytes from {have} on")))?;
        let mut length = incoming.from;
        file.seek(SeekFrom::Start(length)).map_err(unwritable)?;
        while let Some(bytes) = incoming.next().await? {
            let bytes = bytes.as_ref();
            length += bytes.len() as u64;
            if let Some(size) = self.announced.size.filter(|size| length > *size) {
                return Err(Stop::Error(self.discard(
                    part,
                    &format!("is longer than the {size} bytes announced"),
                )));
            }
            file.write_all(bytes).map_err(unwritable)?;
            meter.set(length);
        }
        Ok(())
    }

    /// The difference of the file from its announcement, if any.
    fn fault(&self, file: &mut File, part: &Path) -> Result<Option<String>> {
        let Some(checksum) = Checksum::announced(&self.announced.etag) else {
            return Ok(None);
        };
        let found = checksum.of(file).map_err(|cause| {
            Error::hub(format!("cannot read {}", part.display()))
                .caused_by(cause)
                .hint("check the disk")
        })?;
        let (expected, name) = (checksum.expected(), checksum.name());
        let how =
            || format!("does not have the checksum announced: {name} {found} is not {expected}");
        Ok((expected != found).then(how))
    }

    fn make_sure_of_room(&self, have: u64) -> Result<()> {
        let Some(size) = self.announced.size else {
            return Ok(());
        };
        // If the free space is unknown, writing will show whether it suffices.
        let Ok(room) = fs4::available_space(self.place.cache) else {
            return Ok(());
        };
        let needed = size.saturating_sub(have);
        if needed <= room {
            return Ok(());
        }
        Err(Error::hub(format!(
            "{} of {} needs {} in {}, where {} are free",
            self.name,
            self.place,
            DecimalBytes(needed),
            self.place.cache.display(),
            DecimalBytes(room)
        ))
        .hint("make room there, or choose another folder with HF_HOME"))
    }

    fn length(&self, file: &File, part: &Path) -> Result<u64> {
        let metadata = file
            .metadata()
            .map_err(|cause| self.place.unwritable(part, cause))?;
        Ok(metadata.len())
    }

    fn empty(&self, file: &File, part: &Path) -> Result<()> {
        file.set_len(0)
            .map_err(|cause| self.place.unwritable(part, cause))
    }

    /// Removes the received bytes, since they are not those of the file.
    fn discard(&self, part: &Path, how: &str) -> Error {
        match fs::remove_file(part) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Error::hub(format!("cannot remove the broken {}", part.display())).caused_by(cause)
            }
            _ => self.place.damaged(self.name, how),
        }
    }
}
