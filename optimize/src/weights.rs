//! Converts weights to a format, file to file.
//!
//! Files are read and written in chunks, so that the memory does not grow with the model; only a matrix that is
//! quantised is in memory as a whole. Tensors keep their order, and their names and shapes unless they are quantised;
//! tensors that are not floating-point keep their bytes.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use artifact::Context;
use model::Dtype;
use model::compressed_tensors::{self, Integers};
use model::safetensors::{PYTORCH, TensorSpec, header};
use safetensors::tensor::{Metadata, TensorInfo};

use crate::Error;
use crate::format::Safetensors;
use crate::rounded::Rounded;

/// Elements that are converted at a time.
const CHUNK: usize = 1 << 16;

/// The maximum length of a header in the safetensors format.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The length of the file.
    pub(crate) bytes: u64,
    /// The bytes of the tensors in it.
    pub(crate) tensor_bytes: u64,
    /// The names of the tensors.
    pub(crate) tensors: Vec<String>,
    /// The projections that are not quantised, though others are in this format.
    pub(crate) ignored: Vec<String>,
}

/// Writes the tensors of `source` to `target` in `format`, projections from `rounded` if they are there.
///
/// # Errors
/// Returns an error if `source` is not complete, or a weight is not finite or does not fit the format, and on I/O
/// errors.
pub(crate) fn convert(
    source: &Path,
    target: &Path,
    format: Safetensors,
    rounded: &mut Rounded,
    context: &Context,
) -> Result<Written, Error> {
    let read_failed = |e| artifact::Error::io("read", source, e);
    let write_failed = |e| artifact::Error::io("write", target, e);
    let mut reader = BufReader::with_capacity(1 << 18, File::open(source).map_err(read_failed)?);
    let tensors = read_header(source, &mut reader)?;

    let elements: u64 = tensors.iter().map(|(_, info)| elements_of(info) as u64).sum();
    context.progress.begin("converting", elements, "weights");
    let mut written = Written::default();
    let specs: Vec<TensorSpec> =
        tensors.iter().flat_map(|(name, info)| specs(name, info, format, rounded, &mut written)).collect();
    let header =
        header(specs, PYTORCH).map_err(|e| Error::Weights { path: source.to_owned(), reason: e.to_string() })?;
    written.bytes = header.len() as u64;
    let mut writer = BufWriter::with_capacity(1 << 18, File::create(target).map_err(write_failed)?);
    writer.write_all(&header).map_err(write_failed)?;

    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut done = 0;
    for (name, info) in &tensors {
        let mut element = 0;
        if let Some(integers) = quantization(name, info, format, rounded) {
            element = elements_of(info);
            let skipped = (element * info.dtype.bitsize() / 8) as i64;
            reader.seek_relative(skipped).map_err(read_failed)?;
            output.clear();
            quantized(name, info, integers, rounded, &mut output)?;
            writer.write_all(&output).map_err(write_failed)?;
            written.tensor_bytes += output.len() as u64;
            done += element as u64;
        }
        while element < elements_of(info) {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let count = CHUNK.min(elements_of(info) - element);
            input.resize(count * info.dtype.bitsize() / 8, 0);
            reader.read_exact(&mut input).map_err(read_failed)?;
            output.clear();
            let chunk = Chunk { source, tensor: name, first_element: element };
            match Dtype::decode_stored(info.dtype, &input) {
                Some(values) => chunk.convert(&values, format.dtype, &mut output)?,
                None => output.extend_from_slice(&input),
            }
            writer.write_all(&output).map_err(write_failed)?;
            element += count;
            written.tensor_bytes += output.len() as u64;
            done += count as u64;
            context.progress.position(done);
        }
    }
    writer.flush().map_err(write_failed)?;
    written.bytes += written.tensor_bytes;
    Ok(written)
}

/// Returns the integers that a tensor is quantised to: the weight of a projection that was rounded.
fn quantization(name: &str, info: &TensorInfo, format: Safetensors, rounded: &Rounded) -> Option<Integers> {
    let integers = format.integers.filter(|_| is_projection(name, info))?;
    parameters(name).iter().all(|parameter| rounded.has(parameter, integers.block_type())).then_some(integers)
}

/// Appends the three tensors of a quantised matrix to `output`.
fn quantized(
    name: &str,
    info: &TensorInfo,
    integers: Integers,
    rounded: &mut Rounded,
    output: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut blocks = Vec::new();
    for parameter in parameters(name) {
        blocks.extend(rounded.blocks(&parameter, integers.block_type())?.unwrap_or_default());
    }
    let (packed, scales) = compressed_tensors::pack(integers, &blocks);
    output.extend(packed);
    output.extend(scales);
    output.extend(info.shape.iter().flat_map(|size| (*size as i64).to_le_bytes()));
    Ok(())
}

/// Returns the parameters that the weight of a projection consists of: Phi-3 has those of the same input in one.
fn parameters(name: &str) -> Vec<String> {
    let name = name.find("layers.").map_or(name, |start| &name[start..]);
    let fused: [(&str, &[&str]); 2] =
        [("qkv_proj.", &["q_proj.", "k_proj.", "v_proj."]), ("gate_up_proj.", &["gate_proj.", "up_proj."])];
    match fused.iter().find(|(fused, _)| name.contains(fused)) {
        Some((fused, parts)) => parts.iter().map(|part| name.replace(fused, part)).collect(),
        None => vec![name.to_owned()],
    }
}

/// Returns true for the weight of a linear projection of a layer.
fn is_projection(name: &str, info: &TensorInfo) -> bool {
    info.shape.len() == 2 && name.contains(".layers.") && name.ends_with(".weight") && Dtype::is_read_from(info.dtype)
}

/// Returns the tensors that a tensor becomes, and notes them in `written`.
fn specs(
    name: &str,
    info: &TensorInfo,
    format: Safetensors,
    rounded: &Rounded,
    written: &mut Written,
) -> Vec<TensorSpec> {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let specs = if let Some(integers) = quantization(name, info, format, rounded) {
        compressed_tensors::specs(module, [info.shape[0], info.shape[1]], integers).to_vec()
    } else {
        if format.integers.is_some() && is_projection(name, info) {
            written.ignored.push(module.to_owned());
        }
        let dtype = if Dtype::is_read_from(info.dtype) { format.dtype.into() } else { info.dtype };
        vec![TensorSpec { name: name.to_owned(), dtype, shape: info.shape.clone() }]
    };
    written.tensors.extend(specs.iter().map(|spec| spec.name.clone()));
    specs
}

fn elements_of(info: &TensorInfo) -> usize {
    // The header was validated: the product is the tensor's length, which fits.
    info.shape.iter().product()
}

/// Reads the header and returns the tensors in the order of their bytes, after checking that the file is complete.
fn read_header(path: &Path, reader: &mut BufReader<File>) -> Result<Vec<(String, TensorInfo)>, Error> {
    let wrong = |reason: String| Error::Weights { path: path.to_owned(), reason };
    let found = reader.get_ref().metadata().map_err(|e| artifact::Error::io("read", path, e))?.len();
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(|_| wrong(format!("it has {found} bytes, fewer than any header")))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length + 8 > found {
        return Err(wrong(format!("it has {found} bytes, but its first eight ask for a header of {length}")));
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header).map_err(|e| artifact::Error::io("read", path, e))?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| wrong(format!("its header is invalid: {e}")))?;
    let expected = 8 + length + metadata.data_len() as u64;
    if found != expected {
        return Err(wrong(format!("its header asks for {expected} bytes, but it has {found}: it is incomplete")));
    }
    let names = metadata.offset_keys();
    names
        .into_iter()
        .map(|name| {
            let info = metadata.info(&name).cloned().ok_or_else(|| wrong(format!("tensor {name} is not described")))?;
            // Elements below one byte would not end at whole bytes in every chunk; our checkpoints do not have them.
            if info.dtype.bitsize() % 8 == 0 {
                Ok((name, info))
            } else {
                Err(wrong(format!("tensor {name} has dtype {}, which is not supported", info.dtype)))
            }
        })
        .collect()
}

/// The place of consecutive elements, for errors.
struct Chunk<'a> {
    source: &'a Path,
    tensor: &'a str,
    first_element: usize,
}

impl Chunk<'_> {
    /// Appends values to `output` in `dtype`, rounded to the nearest, ties to even.
    fn convert(&self, values: &[f32], dtype: Dtype, output: &mut Vec<u8>) -> Result<(), Error> {
        dtype.encode(values, output);
        // Rounding may overflow to infinity too.
        match dtype.decode(output).iter().position(|written| !written.is_finite()) {
            Some(i) => Err(self.invalid(self.first_element + i, values[i], dtype)),
            None => Ok(()),
        }
    }

    fn invalid(&self, element: usize, value: f32, dtype: Dtype) -> Error {
        let tensor = self.tensor.to_owned();
        if value.is_finite() {
            Error::Overflow { tensor, element, value, dtype: dtype.name(), largest: dtype.max() }
        } else {
            Error::NotFinite { path: self.source.to_owned(), tensor, element, value }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use safetensors::SafeTensors;
    use safetensors::tensor::TensorView;

    use super::*;

    fn write(path: &Path, tensors: &[(&str, safetensors::Dtype, &[u8])]) {
        let views = tensors.iter().map(|(name, dtype, bytes)| {
            (*name, TensorView::new(*dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes).unwrap())
        });
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn floats(dtype: Dtype) -> Safetensors {
        Safetensors { dtype, integers: None }
    }

    fn converted(tensors: &[(&str, safetensors::Dtype, &[u8])], dtype: Dtype) -> Result<Vec<u8>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source.safetensors"), folder.path().join("target.safetensors"));
        write(&source, tensors);
        let bytes = convert(&source, &target, floats(dtype), &mut Rounded::default(), &Context::quiet(0))?.bytes;
        let written = std::fs::read(&target).unwrap();
        assert_eq!(bytes, written.len() as u64);
        Ok(written)
    }

    #[test]
    fn floats_are_converted_and_integers_kept() {
        // Exact in every dtype.
        let values = [0.0, -1.5, 0.0625, 240.0];
        let as_f16: Vec<u8> = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let as_bf16: Vec<u8> = values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        let forms = [(Dtype::F32, f32_bytes(&values)), (Dtype::F16, as_f16), (Dtype::Bf16, as_bf16)];
        for (from, source) in &forms {
            for (to, expected) in &forms {
                let steps = [1, 2, 3, 4, 5, 6, 7, 8];
                let tensors = [("w", (*from).into(), &source[..]), ("steps", safetensors::Dtype::I64, &steps[..])];
                let file = converted(&tensors, *to).unwrap();
                let read = SafeTensors::deserialize(&file).unwrap();
                let weight = read.tensor("w").unwrap();
                assert_eq!((weight.dtype(), weight.shape()), ((*to).into(), &[4][..]));
                assert_eq!(weight.data(), expected);
                assert_eq!(read.tensor("steps").unwrap().data(), steps);
                assert_eq!(file, converted(&tensors, *to).unwrap(), "the bytes are the same every time");
            }
        }
    }

    #[test]
    fn tensor_longer_than_a_chunk_is_complete() {
        let values: Vec<f32> = (0..2 * CHUNK + 7).map(|i| i as f32).collect();
        let file = converted(&[("w", safetensors::Dtype::F32, &f32_bytes(&values))], Dtype::F32).unwrap();
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.tensor("w").unwrap().data(), f32_bytes(&values));
    }

    #[test]
    fn weight_out_of_range_is_named() {
        let check = |values: &[f32], dtype: Dtype, expected: Option<&str>| {
            let found = converted(&[("model.norm.weight", safetensors::Dtype::F32, &f32_bytes(values))], dtype);
            match (found, expected) {
                (Ok(_), None) => {}
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
                (found, _) => panic!("{:?}, not {expected:?}", found.map(|_| ())),
            }
        };
        check(&[65504.0, -65504.0], Dtype::F16, None);
        let text = "tensor model.norm.weight holds -70000 at element 1, beyond the 65504 that f16 can hold";
        check(&[1.0, -70000.0], Dtype::F16, Some(text));
        check(&[1.0, -70000.0], Dtype::Bf16, None);
        check(&[1.0, 3.4e38], Dtype::Bf16, Some("beyond"));
        check(&[f32::NAN], Dtype::Bf16, Some("tensor model.norm.weight holds NaN at element 0"));
        check(&[f32::INFINITY], Dtype::F32, Some("holds inf at element 0"));
    }

    #[test]
    fn incomplete_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.safetensors");
        write(&source, &[("w", safetensors::Dtype::F32, &f32_bytes(&[1.0; 100]))]);
        let whole = std::fs::read(&source).unwrap();
        for length in [0, 7, 8, 20, whole.len() - 1] {
            std::fs::write(&source, &whole[..length]).unwrap();
            let target = folder.path().join("target.safetensors");
            let error = convert(&source, &target, floats(Dtype::Bf16), &mut Rounded::default(), &Context::quiet(0))
                .unwrap_err()
                .to_string();
            assert!(error.contains("model.safetensors cannot be read as weights"), "{error}");
            assert!(error.contains(&length.to_string()), "{error}");
        }
    }

    #[test]
    fn tensors_are_divided_into_parameters() {
        let check = |name: &str, expected: &[&str]| assert_eq!(parameters(name), expected);
        check("model.layers.0.self_attn.o_proj.weight", &["layers.0.self_attn.o_proj.weight"]);
        check("model.layers.12.mlp.up_proj.weight", &["layers.12.mlp.up_proj.weight"]);
        let attention = ["q", "k", "v"].map(|part| format!("layers.3.self_attn.{part}_proj.weight"));
        assert_eq!(parameters("model.layers.3.self_attn.qkv_proj.weight"), attention);
        let fused = "model.layers.3.mlp.gate_up_proj.weight";
        check(fused, &["layers.3.mlp.gate_proj.weight", "layers.3.mlp.up_proj.weight"]);
    }

    #[test]
    fn conversion_can_be_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.safetensors");
        write(&source, &[("w", safetensors::Dtype::F32, &f32_bytes(&[1.0]))]);
        let context = Context::quiet(0);
        context.cancel.request();
        let stopped =
            convert(&source, &folder.path().join("target"), floats(Dtype::Bf16), &mut Rounded::default(), &context);
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
