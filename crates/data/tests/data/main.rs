//! Plans and conditions against a real PostgreSQL, found through `WEFT_RUNTIME_DIR` or the repository's `runtime` folder.

mod database;
mod find;
mod walk;
