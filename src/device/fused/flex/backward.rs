//! The fused operations under automatic differentiation: the state that each keeps from its forward
//! pass, and its gradient.

use super::gemm::Matrix;
use super::rows::{
    ColumnSums, GeluWithDerivative, LayerNormGradient, LogProbGradient, LogTotals, Multiply,
};
use super::rows::{RmsNormGradient, SiluGateGradient};
use super::{
    AttentionShape, Fused, Spans, attention, floats, heads_of, indices, log_probs, matrix, new,
};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn_autodiff::NodeId;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;
use pulp::Arch;

/// Registers each gradient with the node that needs it.
fn register<const N: usize>(
    parents: [Option<NodeId>; N],
    gradients: [FlexTensor; N],
    grads: &mut Gradients,
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(parent) = parent {
            grads.register::<Flex>(parent, gradient);
        }
    }
}

#[derive(Debug)]
struct Linear;

/// dX = dY · Wᵀ and dW = Xᵀ · dY, each computed only if needed.
fn linear_gradients(
    x: FlexTensor,
    weight: FlexTensor,
    gradient: &FlexTensor,
    wanted: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    let [dx, dw] = wanted;
    [
        dx.then(|| Flex::float_matmul(gradient.clone(), weight.transpose(0, 1))),
        dw.then(|| Flex::float_matmul(x.transpose(0, 1), gradient.clone())),
    ]
}

impl Backward<Flex, 2> for Linear {
    type State = (FlexTensor, FlexTensor);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight) = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        for (parent, gradient) in ops
            .parents
            .iter()
            .zip(linear_gradients(x, weight, &gradient, wanted))
        {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

impl Backward<Flex, 3> for Linear {
    type State = (FlexTensor, FlexTensor);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight) = ops.state;
        let [wants_x, wants_weight, wants_bias] = ops.parents.each_ref().map(Option::is_some);
        let [dx, dw] = linear_gradients(x, weight, &gradient, [wants_x, wants_weight]);
        let db = wants_bias.then(|| {
            let Matrix {
                data: x,
                columns: width,
            } = matrix(&gradient);
            new(Arch::new().dispatch(ColumnSums { x, width }), [width])
        });
        for (parent, gradient) in ops.parents.iter().zip([dx, dw, db]) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct LayerNorm;

impl Backward<Flex, 3> for LayerNorm {
    /// The input, the scale, and the epsilon that keeps the variance from zero.
    type State = (FlexTensor, FlexTensor, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, gamma, epsilon) = ops.state;
        let kernel = LayerNormGradient {
            x: floats(&x),
            gamma: floats(&gamma),
            epsilon,
            gradient: floats(&gradient),
        };
        let [dx, d_gamma, d_beta] = Arch::new().dispatch(kernel);
        let gradients = [
            new(dx, x.shape()),
            new(d_gamma, gamma.shape()),
            new(d_beta, gamma.shape()),
        ];
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            gradients,
            grads,
        );
    }
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    /// The derivative at every value.
    type State = FlexTensor;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let mut gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        Arch::new().dispatch(Multiply {
            values: gradient.storage_mut(),
            factors: floats(&ops.state),
        });
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [gradient],
            grads,
        );
    }
}

#[derive(Debug)]
struct RmsNorm;

impl Backward<Flex, 2> for RmsNorm {
    /// The input, the scale, and the epsilon that keeps the mean square from zero.
    type State = (FlexTensor, FlexTensor, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, gamma, epsilon) = ops.state;
        let kernel = RmsNormGradient {
            x: floats(&x),
            gamma: floats(&gamma),
            epsilon,
            gradient: floats(&gradient),
        };
        let [dx, d_gamma] = Arch::new().dispatch(kernel);
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [new(dx, x.shape()), new(d_gamma, gamma.shape())],
            grads,
        );
    }
}

#[derive(Debug)]
struct SiluGate;

impl Backward<Flex, 2> for SiluGate {
    /// Gate and up.
    type State = [FlexTensor; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [gate, up] = ops.state;
        let kernel = SiluGateGradient {
            gate: floats(&gate),
            up: floats(&up),
            gradient: floats(&gradient),
        };
        let gradients = Arch::new()
            .dispatch(kernel)
            .map(|values| new(values, gate.shape()));
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            gradients,
            grads,
        );
    }
}

#[derive(Debug)]
struct Attention;

impl Backward<Flex, 1> for Attention {
    /// `qkv`, cosines, sines; the spans; and the heads.
    type State = ([FlexTensor; 3], Spans, AttentionShape);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([qkv, cos, sin], spans, shape) = ops.state;
        let heads = heads_of([&qkv; 3], [&cos, &sin], &spans, shape, true);
        let mut out = [vec![0.0; qkv.shape().num_elements()]];
        attention::backward(heads, floats(&gradient), &mut out, [0; 3]);
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            out.map(|values| new(values, qkv.shape())),
            grads,
        );
    }
}

impl Backward<Flex, 3> for Attention {
    /// Queries, keys, values; cosines, sines; the spans; and the heads.
    type State = ([FlexTensor; 3], [FlexTensor; 2], Spans, AttentionShape);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (projections, [cos, sin], spans, shape) = ops.state;
        let heads = heads_of(projections.each_ref(), [&cos, &sin], &spans, shape, false);
        let mut out = projections
            .each_ref()
            .map(|tensor| vec![0.0; tensor.shape().num_elements()]);
        attention::backward(heads, floats(&gradient), &mut out, [0, 1, 2]);
        let [queries, keys, values] = out;
        let shapes = projections.each_ref().map(|tensor| tensor.shape());
        let [of_queries, of_keys, of_values] = shapes;
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [
                new(queries, of_queries),
                new(keys, of_keys),
                new(values, of_values),
            ],
            grads,
        );
    }
}

#[derive(Debug)]
struct TokenLogProbs;

impl Backward<Flex, 1> for TokenLogProbs {
    /// Logits, targets, and the log of each row's sum of exponentials.
    type State = (FlexTensor, Vec<usize>, Vec<f32>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (mut logits, targets, totals) = ops.state;
        let width = logits.shape()[1];
        Arch::new().dispatch(LogProbGradient {
            logits: logits.storage_mut(),
            width,
            targets: &targets,
            log_totals: &totals,
            gradient: floats(&gradient),
        });
        register(
            ops.parents.map(|parent| parent.map(|node| node.id)),
            [logits],
            grads,
        );
    }
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let out = super::linear(&x, &weight, None);
        match Backward::<Flex, 2>::prepare::<C>(Linear, [x_node, weight_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_linear_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (bias, bias_node) = bias.into_parts();
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let out = super::linear(&x, &weight, Some(&bias.to_contiguous()));
        match Backward::<Flex, 3>::prepare::<C>(Linear, [x_node, weight_node, bias_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node)) = (x.into_parts(), gamma.into_parts());
        let (beta, beta_node) = beta.into_parts();
        let (x, gamma) = (x.to_contiguous(), gamma.to_contiguous());
        let out = Flex::fused_layer_norm(x.clone(), gamma.clone(), beta, epsilon);
        match LayerNorm
            .prepare::<C>([x_node, gamma_node, beta_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, epsilon), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let x = x.to_contiguous();
                let (out, slopes) = Arch::new().dispatch(GeluWithDerivative(floats(&x)));
                prep.finish(new(slopes, x.shape()), new(out, x.shape()))
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_gelu(x)),
        }
    }

    fn fused_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node)) = (x.into_parts(), gamma.into_parts());
        let (x, gamma) = (x.to_contiguous(), gamma.to_contiguous());
        let out = Flex::fused_rms_norm(x.clone(), gamma.clone(), epsilon);
        match RmsNorm
            .prepare::<C>([x_node, gamma_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, epsilon), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_silu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
        let out = Flex::fused_silu_gate(gate.clone(), up.clone());
        match SiluGate
            .prepare::<C>([gate_node, up_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([gate, up], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spans: Spans,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        let inputs =
            [qkv, cos.into_primitive(), sin.into_primitive()].map(|tensor| tensor.to_contiguous());
        let [qkv, cos, sin] = inputs.clone();
        let out = Flex::fused_attention(qkv, cos, sin, spans.clone(), shape);
        match Backward::<Flex, 1>::prepare::<C>(Attention, [node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((inputs, spans, shape), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_separate_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spans: Spans,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let ((queries, q_node), (keys, k_node)) = (queries.into_parts(), keys.into_parts());
        let (values, v_node) = values.into_parts();
        let projections = [queries, keys, values].map(|tensor| tensor.to_contiguous());
        let angles =
            [cos.into_primitive(), sin.into_primitive()].map(|tensor| tensor.to_contiguous());
        let ([queries, keys, values], [cos, sin]) = (projections.clone(), angles.clone());
        let out =
            Flex::fused_separate_attention(queries, keys, values, cos, sin, spans.clone(), shape);
        match Backward::<Flex, 3>::prepare::<C>(Attention, [q_node, k_node, v_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((projections, angles, spans, shape), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let logits = logits.to_contiguous();
        let (targets, width) = (indices(&targets), logits.shape()[1]);
        let totals = Arch::new().dispatch(LogTotals {
            logits: floats(&logits),
            width,
        });
        let out = log_probs(floats(&logits), width, &targets, &totals);
        match TokenLogProbs
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((logits, targets, totals), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
