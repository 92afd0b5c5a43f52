//! The encoder as an ONNX model: pixels in [0, 1] to z and to the pooled vector.
//!
//! Messages and field numbers follow onnx.proto (IR version 8), operators follow opset 17.

use super::encoder::SMALLEST_SQUARE;
use super::weights::Tensors;
use crate::config::{Config, Stem};
use crate::protobuf::Message;
use burn::nn::BatchNormConfig;
use std::collections::HashMap;

/// TensorProto.FLOAT
const FLOAT: u64 = 1;

/// Builds the ONNX model of the encoder from `tensors` (under our names), with the recipe `config`;
/// `metadata` is stored with it.
///
/// Its input is `pixels` `[batch, 3, side, side]`, its outputs are `z` `[batch, Z]` and `backbone`
/// `[batch, 8 * base]`. The model normalises the pixels itself.
pub fn encoder(tensors: &Tensors, config: &Config, metadata: &[(&str, String)]) -> Vec<u8> {
    let own = |(name, shape, values): &'_ (String, Vec<usize>, Vec<f32>)| {
        name.strip_prefix("encoder.").map(|name| (name.to_owned(), (shape.clone(), values.clone())))
    };
    let mut graph = Graph {
        tensors: tensors.iter().filter_map(own).collect(),
        message: Message::default(),
        nodes: 0,
    };
    let side = config.data.sides().source;
    let channels = |values: [f32; 3]| (vec![1, 3, 1, 1], values.to_vec());
    graph.constant("mean", channels(config.data.mean));
    graph.constant("std", channels(config.data.std));
    let x = graph.node("Sub", &["pixels", "mean"], &[]);
    let x = graph.node("Div", &[&x, "std"], &[]);
    let large = config.model.encoder.stem == Stem::Conv7x7;
    let h = graph.convolution(&x, "stem", if large { 2 } else { 1 });
    let h = graph.norm(&h, "stem_norm");
    let mut h = graph.node("Relu", &[&h], &[]);
    if large {
        h = graph.node(
            "MaxPool",
            &[&h],
            &[ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])],
        );
    }
    for i in 0..8 {
        let stride = if i > 0 && i % 2 == 0 { 2 } else { 1 };
        let part = |name: &str| format!("blocks.{i}.{name}");
        let mut skip = h.clone();
        if graph.tensors.contains_key(&part("shortcut.weight")) {
            skip = graph.convolution(&h, &part("shortcut"), stride);
            skip = graph.norm(&skip, &part("shortcut_norm"));
        }
        h = graph.convolution(&h, &part("conv1"), stride);
        h = graph.norm(&h, &part("norm1"));
        h = graph.node("Relu", &[&h], &[]);
        h = graph.convolution(&h, &part("conv2"), 1);
        h = graph.norm(&h, &part("norm2"));
        h = graph.node("Add", &[&h, &skip], &[]);
        h = graph.node("Relu", &[&h], &[]);
    }
    let h = graph.node("GlobalAveragePool", &[&h], &[]);
    graph.named("Flatten", &[&h], "backbone", &[]);
    let (weight, bias) = (graph.stored("head.weight"), graph.stored("head.bias"));
    if config.model.encoder.normalise_z {
        let z = graph.node("Gemm", &["backbone", &weight, &bias], &[]);
        let square = graph.node("Mul", &[&z, &z], &[]);
        let mean = graph.node("ReduceMean", &[&square], &[ints("axes", &[1])]);
        graph.constant("smallest", (vec![1, 1], vec![SMALLEST_SQUARE]));
        let mean = graph.node("Add", &[&mean, "smallest"], &[]);
        let root = graph.node("Sqrt", &[&mean], &[]);
        graph.named("Div", &[&z, &root], "z", &[]);
    } else {
        graph.named("Gemm", &["backbone", &weight, &bias], "z", &[]);
    }
    let (z, pooled) = (config.model.z_dim, 8 * config.model.encoder.base);
    let graph = graph.message.text(2, "encoder").message(11, &port("pixels", &[3, side, side]));
    let graph = graph.message(12, &port("z", &[z])).message(12, &port("backbone", &[pooled]));
    let (ir, opset) = (8, Message::default().text(1, "").varint(2, 17));
    let model = Message::default().varint(1, ir).text(2, "soda").text(3, env!("CARGO_PKG_VERSION"));
    let model = model.message(7, &graph).message(8, &opset);
    let entry = |(key, value): &(&str, String)| Message::default().text(1, key).text(2, value);
    metadata.iter().fold(model, |model, pair| model.message(14, &entry(pair))).encoded().to_vec()
}

/// A graph under construction, and the encoder's tensors that its nodes take.
struct Graph {
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    message: Message,
    nodes: usize,
}

impl Graph {
    /// Adds a node whose output is named `output`.
    fn named(&mut self, kind: &str, inputs: &[&str], output: &str, attributes: &[Message]) {
        let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
        let node = node.text(2, output).text(3, output).text(4, kind);
        let node = attributes.iter().fold(node, |node, attribute| node.message(5, attribute));
        self.message = std::mem::take(&mut self.message).message(1, &node);
    }

    /// Adds a node; returns the name of its output.
    fn node(&mut self, kind: &str, inputs: &[&str], attributes: &[Message]) -> String {
        self.nodes += 1;
        let output = format!("{kind}_{}", self.nodes);
        self.named(kind, inputs, &output, attributes);
        output
    }

    /// Adds a constant tensor.
    fn constant(&mut self, name: &str, (shape, values): (Vec<usize>, Vec<f32>)) {
        let tensor =
            shape.iter().fold(Message::default(), |tensor, side| tensor.varint(1, *side as u64));
        let tensor = tensor.varint(2, FLOAT).text(8, name).bytes(9, bytemuck::cast_slice(&values));
        self.message = std::mem::take(&mut self.message).message(5, &tensor);
    }

    /// Adds a tensor of the encoder; returns its name.
    fn stored(&mut self, name: &str) -> String {
        let tensor =
            self.tensors.remove(name).unwrap_or_else(|| panic!("the encoder has no {name}"));
        self.constant(name, tensor);
        name.to_owned()
    }

    fn convolution(&mut self, x: &str, name: &str, stride: u64) -> String {
        let weight = format!("{name}.weight");
        let kernel = self.tensors[&weight].0[2] as u64;
        let weight = self.stored(&weight);
        let attributes = [
            ints("kernel_shape", &[kernel; 2]),
            ints("strides", &[stride; 2]),
            ints("pads", &[kernel / 2; 4]),
        ];
        self.node("Conv", &[x, &weight], &attributes)
    }

    fn norm(&mut self, x: &str, name: &str) -> String {
        let parts = ["gamma", "beta", "running_mean", "running_var"]
            .map(|part| self.stored(&format!("{name}.{part}")));
        let [gain, shift, mean, variance] = parts.each_ref().map(String::as_str);
        let epsilon = BatchNormConfig::new(1).epsilon as f32;
        let epsilon = Message::default().text(1, "epsilon").float(2, epsilon).varint(20, 1);
        self.node("BatchNormalization", &[x, gain, shift, mean, variance], &[epsilon])
    }
}

/// Returns an attribute of integers.
fn ints(name: &str, values: &[u64]) -> Message {
    let kind = 7;
    values
        .iter()
        .fold(Message::default().text(1, name), |message, value| message.varint(8, *value))
        .varint(20, kind)
}

/// Returns an input or output of the graph: floats, for any number of images.
fn port(name: &str, sides: &[usize]) -> Message {
    let batch = Message::default().message(1, &Message::default().text(2, "batch"));
    let shape = sides
        .iter()
        .fold(batch, |shape, side| shape.message(1, &Message::default().varint(1, *side as u64)));
    let kind =
        Message::default().message(1, &Message::default().varint(1, FLOAT).message(2, &shape));
    Message::default().text(1, name).message(2, &kind)
}
