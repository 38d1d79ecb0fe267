use crate::sqlite::{Aggregate, Context, Error, Result, Value};
use crate::vtab::functions::function_error;
use crate::vtab::values::element::{Element, Vector, subtype};

/// `vec_pack(v)`: vectors of one type and dimension, one after the other, in the form for `batch MATCH`.
///
/// A batch numbers its queries by their positions, so NULL is an error. If it were skipped, as in most
/// aggregates, later queries would get wrong numbers.
#[derive(Default)]
pub struct Pack {
    rows: u64,
    first: Option<(Element, usize)>,
    bytes: Vec<u8>,
}

impl Aggregate for Pack {
    fn step(&mut self, args: &[Value<'_>]) -> Result<()> {
        self.rows += 1;
        if args[0].is_null() {
            return Err(Error::generic(format!(
                "vec_pack: the vector of row {} is NULL, and has no place in a batch: leave such rows out, vec_pack(v) FILTER (WHERE v IS NOT NULL)",
                self.rows
            )));
        }
        let vector = Vector::read(&args[0]).map_err(|fault| function_error("vec_pack", fault))?;
        let (element, dim) = *self.first.get_or_insert((vector.element(), vector.len()));
        if vector.element() != element {
            let (found, first) = (vector.element().name(), element.name());
            return Err(Error::generic(format!("vec_pack: a {found} vector after others of {first}")));
        }
        if vector.len() != dim {
            let text =
                format!("vec_pack: a vector of {} dimensions after vectors of another number", vector.len());
            return Err(Error::generic(text));
        }
        vector.append_to(&mut self.bytes)
    }

    fn finish(self, context: &Context<'_>) -> Result<()> {
        context.blob(&self.bytes);
        if let Some((element, _)) = self.first {
            context.subtype(subtype(element));
        }
        Ok(())
    }
}
