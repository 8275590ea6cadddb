//! Memory and speed of a device. Plans use them for estimates before anything runs.

use super::DeviceSpec;
use super::memory;
use crate::error::{Error, Result};
use std::process::Command;

const GIB: f64 = (1u64 << 30) as f64;

/// One device that stages run on, one stage at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardware {
    pub name: String,
    /// Bytes that one stage may fill.
    pub memory: u64,
    /// Peak rates of dense matrix products, in floating-point operations per second as the maker
    /// states them: with bf16 factors, and with f32.
    pub peak_bf16: f64,
    pub peak_f32: f64,
    /// Bytes per second between memory and cores; infinite where memory is never the limit.
    pub bandwidth: f64,
    /// Share of the peak that training and scoring are expected to reach.
    pub utilisation: f64,
    pub is_cpu: bool,
}

/// The operations that a device computes with, which keep different values for the backward pass
/// (`device/fused`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operations {
    /// This project's own for the CPU backend, in f32; in other types compositions.
    Flex,
    /// LibTorch's own.
    LibTorch,
    /// Compositions of tensor operations.
    Composed,
}

/// The memory properties of the place where a stage runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackendProfile {
    pub operations: Operations,
    /// Bytes of the program and its libraries, if the device has no memory of its own.
    pub program: f64,
}

impl BackendProfile {
    pub const FLEX: Self = Self {
        operations: Operations::Flex,
        program: 28e6,
    };
    pub const LIBTORCH: Self = Self {
        operations: Operations::LibTorch,
        program: 144e6,
    };
    /// A GPU with LibTorch.
    pub const LIBTORCH_GPU: Self = Self {
        operations: Operations::LibTorch,
        program: 0.0,
    };
    /// A GPU with CubeCL, which takes the most.
    pub const GPU: Self = Self {
        operations: Operations::Composed,
        program: 0.0,
    };

    /// Bytes of the program with a tokenizer of `vocabulary` tokens.
    pub fn program_with(self, vocabulary: usize) -> f64 {
        /// Bytes of a token's text, its id and its merges, in several tables.
        const TOKEN: f64 = 250.0;
        if self.program == 0.0 {
            0.0
        } else {
            self.program + TOKEN * vocabulary as f64
        }
    }
}

/// GPUs by name: usable GiB; then, from the makers' data sheets, without sparsity, in 1e12 per
/// second: operations with bf16 factors, operations with f32, and bytes.
const GPUS: [(&str, f64, [f64; 3]); 8] = [
    ("a10g-24gb", 22.0, [70.0, 31.2, 0.600]),
    ("rtx4090-24gb", 23.5, [165.2, 82.6, 1.008]),
    ("a100-40gb", 39.0, [312.0, 19.5, 1.555]),
    ("a40-48gb", 44.4, [149.7, 37.4, 0.696]),
    ("l40s-48gb", 44.4, [362.0, 91.6, 0.864]),
    ("a100-80gb", 79.0, [312.0, 19.5, 2.039]),
    ("h100-80gb", 78.0, [989.4, 66.9, 3.350]),
    ("h200-141gb", 139.0, [989.4, 66.9, 4.800]),
];

/// The driver's names of the GPUs in the table. An H100 on PCIe is slower and is not listed.
const DRIVER_NAMES: [(&str, &str); 10] = [
    ("NVIDIA A10G", "a10g-24gb"),
    ("NVIDIA GeForce RTX 4090", "rtx4090-24gb"),
    ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
    ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
    ("NVIDIA A40", "a40-48gb"),
    ("NVIDIA L40S", "l40s-48gb"),
    ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
    ("NVIDIA A100 80GB PCIe", "a100-80gb"),
    ("NVIDIA H100 80GB HBM3", "h100-80gb"),
    ("NVIDIA H200", "h200-141gb"),
];

/// Share of a GPU's peak that is reached. An assumption, and more than CubeCL was observed to reach
/// (docs/performance.md).
const GPU_UTILISATION: f64 = 0.35;

/// Speed of one core of a server processor, as measured in training models of a few hundred
/// dimensions (docs/performance.md).
const CORE_FLOPS: f64 = 5.0e10;

/// Memory that is assumed for a system that does not report it, in bytes.
const UNKNOWN_MEMORY: u64 = 8 << 30;

impl Hardware {
    /// The machine that this runs on, with the free part of its memory shared by `jobs` stages at
    /// once.
    pub fn here(jobs: usize) -> Self {
        Self {
            name: format!("this machine ({jobs} at once)"),
            memory: memory_of(DeviceSpec::Flex, jobs)
                .unwrap_or(UNKNOWN_MEMORY / jobs.max(1) as u64),
            peak_bf16: CORE_FLOPS,
            peak_f32: CORE_FLOPS,
            bandwidth: f64::INFINITY,
            utilisation: 1.0,
            is_cpu: true,
        }
    }

    /// A GPU by its name, as listed by [`names`](Self::names).
    ///
    /// # Errors
    /// A name that is not in the table.
    pub fn named(name: &str) -> Result<Self> {
        let found = GPUS.iter().find(|(known, ..)| *known == name);
        let (name, gib, [bf16, f32, bandwidth]) = found.ok_or_else(|| {
            Error::device(format!("no hardware is called `{name}`")).hint(format!(
                "known: here, {}; --memory sets any other size",
                Self::names().join(", ")
            ))
        })?;
        Ok(Self {
            name: (*name).into(),
            memory: (gib * GIB) as u64,
            peak_bf16: bf16 * 1e12,
            peak_f32: f32 * 1e12,
            bandwidth: bandwidth * 1e12,
            utilisation: GPU_UTILISATION,
            is_cpu: false,
        })
    }

    /// The GPU at `device`, if that is a GPU and the table contains it.
    pub fn of_gpu(device: DeviceSpec) -> Option<Self> {
        Self::driven(&nvidia_smi(device.gpu()?, "name")?)
    }

    /// A GPU by the driver's name.
    fn driven(name: &str) -> Option<Self> {
        let (_, known) = DRIVER_NAMES.iter().find(|(driven, _)| *driven == name)?;
        Self::named(known).ok()
    }

    pub fn names() -> Vec<&'static str> {
        GPUS.iter().map(|(name, ..)| *name).collect()
    }
}

/// Memory that a stage on `device` may fill while `jobs` stages run at once: the machine's
/// available memory, or the GPU's total. `None` where the system does not report it.
pub fn memory_of(device: DeviceSpec, jobs: usize) -> Option<u64> {
    match device.gpu() {
        Some(index) => gpu_memory(index),
        None => {
            let share = memory::available().map(|available| available.bytes / jobs.max(1) as u64);
            share.into_iter().chain(memory::process_limit()).min()
        }
    }
}

/// Memory of GPU `index`, which the driver reports in MiB.
fn gpu_memory(index: usize) -> Option<u64> {
    nvidia_smi(index, "memory.total")?
        .parse::<u64>()
        .ok()
        .map(|mib| mib << 20)
}

/// The answer of the driver's own tool to a query about GPU `index`.
fn nvidia_smi(index: usize, query: &str) -> Option<String> {
    let (query, index) = (format!("--query-gpu={query}"), index.to_string());
    let arguments = [&query, "--format=csv,noheader,nounits", "--id", &index];
    let said = Command::new("nvidia-smi")
        .args(arguments)
        .output()
        .ok()
        .filter(|out| out.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GPU's name ends with the GiB or GB that its maker states, of which nearly all can be used.
    #[test]
    fn every_name_is_found_with_what_it_says_and_another_lists_them() {
        for name in Hardware::names() {
            let found = Hardware::named(name).unwrap();
            let stated: f64 = name
                .rsplit('-')
                .next()
                .unwrap()
                .trim_end_matches("gb")
                .parse()
                .unwrap();
            let share = found.memory as f64 / GIB / stated;
            assert!((0.9..1.0).contains(&share), "{name}: {share} of the memory");
            assert!(
                found.peak_bf16 > found.peak_f32 && found.peak_f32 > found.bandwidth,
                "{found:?}"
            );
        }
        let error = Hardware::named("h100").unwrap_err();
        assert!(
            miette::Diagnostic::help(&error)
                .unwrap()
                .to_string()
                .contains("h100-80gb")
        );
    }

    #[test]
    fn what_the_driver_names_is_in_the_table_and_what_is_slower_is_not() {
        for (driven, name) in DRIVER_NAMES {
            assert_eq!(Hardware::driven(driven).unwrap().name, name);
        }
        assert_eq!(Hardware::driven("NVIDIA H100 PCIe"), None);
        assert_eq!(Hardware::of_gpu(DeviceSpec::Flex), None);
    }

    #[test]
    fn jobs_share_a_machine_s_memory() {
        let (one, four) = (Hardware::here(1), Hardware::here(4));
        let ratio = one.memory as f64 / four.memory as f64;
        // Other programs allocate and free memory between the two measurements.
        assert!((3.0..5.0).contains(&ratio), "{one:?} and {four:?}");
    }
}
