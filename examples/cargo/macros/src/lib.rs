//! `#[derive(Describe)]`: a method that tells the type's name and fields.

use proc_macro::{TokenStream, TokenTree};

#[proc_macro_derive(Describe)]
pub fn describe(input: TokenStream) -> TokenStream {
    let mut name = None;
    let mut fields = Vec::new();
    let mut tokens = input.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word.to_string() == "struct" => {
                name = tokens.next().map(|name| name.to_string());
            }
            TokenTree::Group(group) if name.is_some() => {
                let mut before = None;
                for token in group.stream() {
                    match &token {
                        TokenTree::Punct(punct) if punct.as_char() == ':' => fields.extend(before.take()),
                        TokenTree::Ident(word) => before = Some(word.to_string()),
                        _ => before = None,
                    }
                }
            }
            _ => {}
        }
    }
    let name = name.expect("Describe is for structs");
    let text = format!("{name} {{ {} }}", fields.join(", "));
    format!("impl {name} {{ pub fn describe() -> &'static str {{ {text:?} }} }}")
        .parse()
        .expect("valid tokens")
}
