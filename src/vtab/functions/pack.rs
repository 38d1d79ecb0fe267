use crate::index::TryExtend;
use crate::sqlite::{Aggregate, Context, Error, Result, Value};
use crate::vtab::element::Vector;
use crate::vtab::functions::function_error;

/// `vec_pack(v)`: vectors of one dimension, one after the other, as `batch MATCH` takes them.
#[derive(Default)]
pub struct Pack {
    dim: Option<usize>,
    bytes: Vec<u8>,
}

impl Aggregate for Pack {
    fn step(&mut self, args: &[Value<'_>]) -> Result<()> {
        let vector = Vector::read(&args[0]).and_then(Vector::into_f32);
        let vector = vector.map_err(|fault| function_error("vec_pack", fault))?;
        if *self.dim.get_or_insert(vector.len()) != vector.len() {
            let text = format!("vec_pack: a vector of {} dimensions after others of another", vector.len());
            return Err(Error::generic(text));
        }
        self.bytes.try_extend(vector.iter().flat_map(|v| v.to_le_bytes()))?;
        Ok(())
    }

    fn finish(self, context: &Context<'_>) -> Result<()> {
        context.blob(&self.bytes);
        Ok(())
    }
}
