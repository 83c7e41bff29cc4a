//! Rows as COPY takes them in its binary format. PostgreSQL takes in many rows this way for half of what an insert costs it.

use sqlx::{Encode, Postgres, encode::IsNull, postgres::PgArgumentBuffer};

/// What every such stream begins with: its name, no flags, no further header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands for the number of columns where no row follows.
const END: i16 = -1;
/// What stands for the length of a value that is null.
const NULL: i32 = -1;

/// Rows one after the other, each value as it would be bound. Their columns are those that the statement names.
pub struct Rows {
    columns: i16,
    buffer: PgArgumentBuffer,
}

impl Rows {
    pub fn of(columns: i16) -> Self {
        let mut buffer = PgArgumentBuffer::default();
        buffer.extend_from_slice(HEADER);
        Self { columns, buffer }
    }

    /// Begins a row: as many values follow as there are columns.
    pub fn begin(&mut self) {
        self.buffer.extend_from_slice(&self.columns.to_be_bytes());
    }

    /// The next value of the row, of just the type that its column has.
    pub fn push<'q>(&mut self, value: impl Encode<'q, Postgres>) -> sqlx::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&NULL.to_be_bytes());
        if matches!(value.encode(&mut self.buffer).map_err(sqlx::Error::Encode)?, IsNull::No) {
            let length = i32::try_from(self.buffer.len() - start - 4).map_err(|error| sqlx::Error::Encode(error.into()))?;
            if let Some(place) = self.buffer.get_mut(start..start + 4) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(())
    }

    /// The stream.
    pub fn finish(mut self) -> Vec<u8> {
        self.buffer.extend_from_slice(&END.to_be_bytes());
        std::mem::take(&mut *self.buffer)
    }
}
