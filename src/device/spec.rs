//! Names of devices; this is the only place where they are parsed.

use super::hardware::BackendProfile;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device by its name: `flex`, `libtorch`, `libtorch:cuda:N` or `cuda:N`.
///
/// Every device can be named. Whether it is built in shows when it is [selected](super::select),
/// and whether the hardware is present when it is [tried](super::try_out).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum DeviceSpec {
    /// Pure Rust on the processor, always built in.
    #[default]
    Flex,
    /// LibTorch on the processor.
    LibTorch,
    /// LibTorch on an NVIDIA GPU, by its number.
    LibTorchCuda(usize),
    /// CubeCL on an NVIDIA GPU, by its number.
    Cuda(usize),
}

impl DeviceSpec {
    /// The kind of device, without its number.
    pub const fn backend(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::LibTorch => "libtorch",
            Self::LibTorchCuda(_) => "libtorch:cuda",
            Self::Cuda(_) => "cuda",
        }
    }

    /// The number of the GPU, unless the device is the processor.
    pub fn gpu(self) -> Option<usize> {
        match self {
            Self::Flex | Self::LibTorch => None,
            Self::LibTorchCuda(index) | Self::Cuda(index) => Some(index),
        }
    }

    /// True if matrices of f32 are multiplied in TF32, which keeps ten bits of each factor: CubeCL's
    /// tensor cores do, and have no switch against it.
    pub const fn multiplies_in_tf32(self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// Memory that a program needs on the device.
    pub fn profile(self) -> BackendProfile {
        match self {
            Self::Flex => BackendProfile::FLEX,
            Self::LibTorch => BackendProfile::LIBTORCH,
            Self::LibTorchCuda(_) => BackendProfile::LIBTORCH_GPU,
            Self::Cuda(_) => BackendProfile::GPU,
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.gpu() {
            None => out.pad(self.backend()),
            Some(index) => out.pad(&format!("{}:{index}", self.backend())),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    /// Parses a name; `cuda` is short for `cuda:0`, and `libtorch:cuda` for `libtorch:cuda:0`.
    fn from_str(name: &str) -> Result<Self> {
        let index = |digits: &str| match digits.parse::<u16>() {
            // `+1` and `01` are numbers too, but not names of devices.
            Ok(index) if index.to_string() == digits => Ok(index.into()),
            _ => Err(Error::device(format!(
                "device `{name}`: `{digits}` is not the number of a GPU"
            ))
            .hint("count from 0, as in `cuda:0`")),
        };
        match name.split(':').collect::<Vec<_>>().as_slice() {
            ["flex"] => Ok(Self::Flex),
            ["libtorch"] => Ok(Self::LibTorch),
            ["libtorch", "cuda"] => Ok(Self::LibTorchCuda(0)),
            ["libtorch", "cuda", digits] => index(digits).map(Self::LibTorchCuda),
            ["cuda"] => Ok(Self::Cuda(0)),
            ["cuda", digits] => index(digits).map(Self::Cuda),
            _ => {
                Err(Error::device(format!("there is no device called `{name}`"))
                    .hint(super::known()))
            }
        }
    }
}

impl From<DeviceSpec> for String {
    fn from(spec: DeviceSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;

    #[test]
    fn a_name_is_read_and_written_alike() {
        for name in ["flex", "libtorch", "libtorch:cuda:1", "cuda:0", "cuda:12"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        for (short, long) in [("cuda", "cuda:0"), ("libtorch:cuda", "libtorch:cuda:0")] {
            assert_eq!(short.parse::<DeviceSpec>().unwrap().to_string(), long);
        }
    }

    #[test]
    fn what_a_name_says_is_not_guessed() {
        let read = |name: &str| name.parse::<DeviceSpec>().unwrap();
        assert_eq!(
            [read("flex"), read("libtorch")].map(DeviceSpec::gpu),
            [None; 2]
        );
        assert_eq!(
            [read("cuda:3"), read("libtorch:cuda:2")].map(DeviceSpec::gpu),
            [Some(3), Some(2)]
        );
        assert_eq!(read("libtorch").profile(), BackendProfile::LIBTORCH);
        assert_eq!(
            read("libtorch:cuda:2").profile(),
            BackendProfile::LIBTORCH_GPU
        );
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_what_is_built() {
        for name in [
            "",
            "gpu",
            "Flex",
            " flex",
            "flex:0",
            "libtorch:0",
            "cuda:0:1",
            "libtorch:cuda:0:1",
        ] {
            let error = name.parse::<DeviceSpec>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Device);
            assert!(
                error.help().unwrap().to_string().contains("built in: flex"),
                "{name}"
            );
        }
        for name in [
            "cuda:first",
            "cuda:-1",
            "cuda:",
            "cuda:+1",
            "cuda:01",
            "cuda:99999999999999999999",
        ] {
            let error = name.parse::<DeviceSpec>().unwrap_err();
            assert!(
                error.help().unwrap().to_string().contains("count from 0"),
                "{name}"
            );
        }
    }
}
