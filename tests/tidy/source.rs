//! A source file, parsed, with every path of this crate that it names.

use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Block, File, Item, Meta, UseTree};

/// A file of `src`.
pub struct Source {
    /// From the root of the repository, for messages.
    pub name: String,
    /// The module it is, without `crate`: `["engine", "node"]`; `["main"]` for the binary.
    pub module: Vec<String>,
    /// What it says.
    pub text: String,
    file: File,
}

/// A path as it is named somewhere: in a `use`, an expression, a type, a macro, an attribute.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// First segment of a path of ours (`crate::engine::..` is `engine`), or of another crate.
    pub root: String,
    /// Whether it is a path of this crate.
    pub ours: bool,
    /// All of it.
    pub path: String,
}

impl Source {
    /// Reads and parses `path`, a file below `root`.
    pub fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let module = name.trim_start_matches("src/").trim_end_matches(".rs");
        let module = module
            .split('/')
            .map(str::to_owned)
            .filter(|part| part != "lib")
            .collect();
        Self::parse(name, module, text)
    }

    /// A made-up file.
    pub fn parse(name: String, module: Vec<String>, text: String) -> Self {
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self {
            name,
            module,
            text,
            file,
        }
    }

    /// Every path that is named, once.
    pub fn named(&self) -> Vec<Named> {
        let mut paths = Paths {
            module: self.module.clone(),
            found: Vec::new(),
        };
        paths.visit_file(&self.file);
        paths.found.sort();
        paths.found.dedup();
        paths.found
    }

    /// Calls of `unwrap` outside tests.
    pub fn unwraps(&self) -> usize {
        let mut count = Unwraps(0);
        if !self.module.iter().any(|part| part == "tests") {
            count.visit_file(&self.file);
        }
        count.0
    }

    /// `use` items inside blocks.
    pub fn inner_uses(&self) -> Vec<String> {
        let mut found = InnerUses(Vec::new());
        found.visit_file(&self.file);
        found.0
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test"),
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::NameValue(_) => false,
    })
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            flatten(&part.tree, path, found);
            path.pop();
        }
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|item| flatten(item, path, found)),
        UseTree::Name(name) => {
            path.push(name.ident.to_string());
            found.push(path.clone());
            path.pop();
        }
        UseTree::Rename(name) => {
            path.push(name.ident.to_string());
            found.push(path.clone());
            path.pop();
        }
        UseTree::Glob(_) => {
            path.push("*".to_owned());
            found.push(path.clone());
            path.pop();
        }
    }
}

struct Paths {
    module: Vec<String>,
    found: Vec<Named>,
}

impl Paths {
    /// Notes a path, with `self` and `super` resolved against the module it stands in.
    fn note(&mut self, segments: &[String], imported: bool) {
        let Some(first) = segments.first() else {
            return;
        };
        let path = segments.join("::");
        let mut full: Vec<String> = match first.as_str() {
            "crate" | "forelay" => Vec::new(),
            "self" | "super" => self.module.clone(),
            // A path that is not imported may begin with anything; another crate's name shows.
            _ if imported || segments.len() > 1 => {
                self.found.push(Named {
                    root: first.clone(),
                    ours: false,
                    path,
                });
                return;
            }
            _ => return,
        };
        for segment in segments
            .iter()
            .skip_while(|s| ["crate", "forelay"].contains(&s.as_str()))
        {
            match segment.as_str() {
                "self" => {}
                "super" => drop(full.pop()),
                other => full.push(other.to_owned()),
            }
        }
        let root = full.first().cloned().unwrap_or_else(|| "*".to_owned());
        self.found.push(Named {
            root,
            ours: true,
            path,
        });
    }

    /// Paths of ours in tokens that syn leaves alone: macros, attributes and their texts.
    fn note_tokens(&mut self, tokens: &str) {
        let tokens: String = tokens.split_whitespace().collect();
        for (at, _) in tokens.match_indices("crate::") {
            let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = tokens[at..]
                .find(|c| !word(c))
                .map_or(tokens.len(), |end| at + end);
            let path = tokens[at..end].split("::").filter(|part| !part.is_empty());
            self.note(&path.map(str::to_owned).collect::<Vec<_>>(), false);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut found = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut found);
        for path in found {
            self.note(&path, true);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.note(&segments, false);
        visit::visit_path(self, path);
    }

    /// `pub(crate)` names nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(&call.tokens.to_string());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.note_tokens(&list.tokens.to_string()),
            // Doc comments link wherever they like.
            Meta::NameValue(_) | Meta::Path(_) => {}
        }
    }
}

struct Unwraps(usize);

impl<'ast> Visit<'ast> for Unwraps {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.0 += usize::from(call.method == "unwrap");
        visit::visit_expr_method_call(self, call);
    }
}

struct InnerUses(Vec<String>);

impl<'ast> Visit<'ast> for InnerUses {
    fn visit_block(&mut self, block: &'ast Block) {
        for statement in &block.stmts {
            if let syn::Stmt::Item(Item::Use(item)) = statement {
                let mut found = Vec::new();
                flatten(&item.tree, &mut Vec::new(), &mut found);
                self.0.extend(found.iter().map(|path| path.join("::")));
            }
        }
        visit::visit_block(self, block);
    }
}
