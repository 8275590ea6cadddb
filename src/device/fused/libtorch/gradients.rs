//! The operations under automatic differentiation: by LibTorch's functions for gradients where it has
//! them, otherwise by its own autograd inside the operation.

use super::kernels::{self, Heads, ScaledHead};
use super::{AttentionShape, Rounding, Torch, new};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Autodiff, LibTorch};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_tch::TchTensor;

/// An operation that LibTorch has recorded: the inputs as leaves of its graph, and the result in it.
/// The clones share storage with the tensors that the library outside uses, which therefore writes
/// over none of them.
#[derive(Clone, Debug)]
struct Record<const N: usize> {
    leaves: [TchTensor; N],
    result: TchTensor,
}

#[derive(Debug)]
struct Recorded;

impl<const N: usize> Backward<LibTorch, N> for Recorded {
    type State = Record<N>;

    fn backward(self, ops: Ops<Record<N>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node).tensor;
        let Record { leaves, result } = ops.state;
        let wanted: Vec<(NodeId, &TchTensor)> = ops
            .parents
            .iter()
            .zip(&leaves)
            .filter_map(|(parent, leaf)| Some((parent.as_ref()?.id, leaf)))
            .collect();
        // A backward pass starts from a number; that of this product gives the result `gradient`.
        let start = result.tensor.flatten(0, -1).dot(&gradient.flatten(0, -1));
        let inputs: Vec<&tch::Tensor> = wanted.iter().map(|(_, leaf)| &leaf.tensor).collect();
        let found = tch::Tensor::run_backward(&[start], &inputs, false, false);
        for ((parent, _), gradient) in wanted.into_iter().zip(found) {
            grads.register::<LibTorch>(parent, new(gradient));
        }
    }
}

/// The result of `compute` for `inputs`, recorded if a gradient of it may be asked for.
fn record<const N: usize, C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<LibTorch, C>>; N],
    compute: impl FnOnce([&tch::Tensor; N]) -> tch::Tensor,
) -> FloatTensor<Autodiff<LibTorch, C>> {
    let tensors = inputs.clone().map(|input| input.into_primitive());
    let nodes = inputs.map(|input| input.into_parts().1);
    match Backward::<LibTorch, N>::prepare::<C>(Recorded, nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let leaves = tensors.map(|input| TchTensor {
                tensor: input.tensor.detach().set_requires_grad(true),
                storage: input.storage,
            });
            let result = compute(leaves.each_ref().map(|leaf| &leaf.tensor));
            let given = new(result.detach());
            let result = TchTensor {
                tensor: result,
                storage: given.storage.clone(),
            };
            prep.finish(Record { leaves, result }, given)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(new(compute(tensors.each_ref().map(|input| &input.tensor))))
        }
    }
}

#[derive(Debug)]
struct Gelu;

impl Backward<LibTorch, 1> for Gelu {
    type State = TchTensor;

    fn backward(self, ops: Ops<TchTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node).tensor;
        let x = ops.state.tensor;
        if let [Some(parent)] = ops.parents {
            let by_x = x.gelu_backward(&gradient, kernels::EXACT);
            grads.register::<LibTorch>(parent.id, new(by_x));
        }
    }
}

#[derive(Debug)]
struct SiluGate;

impl Backward<LibTorch, 2> for SiluGate {
    type State = [TchTensor; 2];

    fn backward(self, ops: Ops<[TchTensor; 2], 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node).tensor;
        let [gate, up] = ops.state.map(|state| state.tensor);
        let [of_gate, of_up] = ops.parents;
        if let Some(parent) = of_gate {
            let by_gate = gate.silu_backward(&(&gradient * &up));
            grads.register::<LibTorch>(parent.id, new(by_gate));
        }
        if let Some(parent) = of_up {
            grads.register::<LibTorch>(parent.id, new(gate.silu() * gradient));
        }
    }
}

#[derive(Debug)]
struct TokenLogProbs;

impl Backward<LibTorch, 1> for TokenLogProbs {
    /// Logits, targets, and the logarithms of sums.
    type State = [TchTensor; 3];

    fn backward(self, ops: Ops<[TchTensor; 3], 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node).tensor;
        let [logits, targets, total] = ops.state.map(|state| state.tensor);
        if let [Some(parent)] = ops.parents {
            let by_logits = kernels::token_log_probs_gradient(&logits, &targets, &total, &gradient);
            grads.register::<LibTorch>(parent.id, new(by_logits));
        }
    }
}

#[derive(Debug)]
struct HeadLogProbs;

impl Backward<LibTorch, 2> for HeadLogProbs {
    /// States, head, targets, the logarithms of sums; temperature.
    type State = ([TchTensor; 4], f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node).tensor;
        let (tensors, temperature) = ops.state;
        let [states, head, targets, totals] = tensors.map(|state| state.tensor);
        let head = ScaledHead::new(&states, &head, temperature);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = head.gradients(&targets, &totals, &gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<LibTorch>(parent.id, new(gradient));
            }
        }
    }
}

#[derive(Debug)]
struct Embedding;

impl Backward<LibTorch, 1> for Embedding {
    /// The ids, and the number of rows of the table.
    type State = (TchTensor, i64);

    fn backward(self, ops: Ops<(TchTensor, i64), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node).tensor;
        let (ids, rows) = ops.state;
        if let [Some(parent)] = ops.parents {
            // No row is padding, and none is scaled by how often it occurs.
            let by_table =
                tch::Tensor::embedding_dense_backward(&gradient, &ids.tensor, rows, -1, false);
            grads.register::<LibTorch>(parent.id, new(by_table));
        }
    }
}

impl<C: CheckpointStrategy> Torch for Autodiff<LibTorch, C> {
    fn torch_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        record::<3, C>([x, gamma, beta], |[x, gamma, beta]| {
            kernels::layer_norm(x, gamma, beta, epsilon)
        })
    }

    fn torch_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f64,
        rounding: Rounding,
    ) -> FloatTensor<Self> {
        record::<2, C>([x, gamma], |[x, gamma]| {
            kernels::rms_norm(x, gamma, epsilon, rounding)
        })
    }

    fn torch_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let out = LibTorch::torch_gelu(x.clone());
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn torch_silu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let out = LibTorch::torch_silu_gate(gate.clone(), up.clone());
        match SiluGate
            .prepare::<C>([gate_node, up_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([gate, up], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn torch_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let [cos, sin] = [cos, sin].map(|angles| angles.into_primitive());
        record::<1, C>([qkv], |[qkv]| {
            let heads = Heads::of_interleaved(qkv, &shape);
            let angles = [&cos.tensor, &sin.tensor];
            kernels::attention(heads, angles, &key_mask.tensor, &shape)
        })
    }

    fn torch_separate_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let [cos, sin] = [cos, sin].map(|angles| angles.into_primitive());
        record::<3, C>([queries, keys, values], |projections| {
            let heads = Heads::of_separate(projections, &shape);
            let angles = [&cos.tensor, &sin.tensor];
            kernels::attention(heads, angles, &key_mask.tensor, &shape)
        })
    }

    fn torch_attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: BoolTensor<Self>,
    ) -> FloatTensor<Self> {
        record::<3, C>([queries, keys, values], |heads| {
            kernels::attend(heads, &seen.tensor)
        })
    }

    fn torch_token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let [out, total] = kernels::token_log_probs(&logits.tensor, &targets.tensor).map(new);
        match TokenLogProbs
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([logits, targets, total], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn torch_head_log_probs(
        states: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
    ) -> FloatTensor<Self> {
        let ((states, states_node), (head, head_node)) = (states.into_parts(), head.into_parts());
        let scaled = ScaledHead::new(&states.tensor, &head.tensor, temperature);
        let [out, totals] = scaled.log_probs(&targets.tensor).map(new);
        match HeadLogProbs
            .prepare::<C>([states_node, head_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                prep.finish(([states, head, targets, totals], temperature), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn torch_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let (table, node) = table.into_parts();
        let rows = table.tensor.size()[0];
        let out = LibTorch::torch_embedding(table, ids.clone());
        match Embedding.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((ids, rows), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
