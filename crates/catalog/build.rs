//! Compiles anew when an integration is added or changed; the files themselves are embedded by the library.

fn main() {
    println!("cargo:rerun-if-changed=../../integrations");
}
