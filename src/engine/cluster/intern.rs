//! Pod templates and owners, each kept once.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::workload::PodNeeds;
use crate::forecast::demand::Template;

/// Hash-consed templates with the number of their users: 150,000 pods of 1,000 templates hold
/// 150,000 pointers.
#[derive(Debug, Default)]
pub struct Templates {
    by_print: HashMap<u64, (Arc<Template>, u32)>,
}

impl Templates {
    /// The template with these needs, and whether it is new. Give it back with [`Self::release`].
    pub fn acquire(&mut self, needs: &PodNeeds) -> (Arc<Template>, bool) {
        let mut print = Template::print_of(needs);
        loop {
            match self.by_print.get_mut(&print) {
                Some((known, users)) if known.needs == *needs => {
                    *users += 1;
                    return (Arc::clone(known), false);
                }
                // Two templates with one fingerprint: the later takes the next free one.
                Some(_) => print = print.wrapping_add(1),
                None => {
                    let template = Arc::new(Template::new(print, needs.clone()));
                    self.by_print.insert(print, (Arc::clone(&template), 1));
                    return (template, true);
                }
            }
        }
    }

    /// A known template, for one user more.
    pub fn again(&mut self, template: &Arc<Template>) -> Arc<Template> {
        if let Some((_, users)) = self.by_print.get_mut(&template.print) {
            *users += 1;
        }
        Arc::clone(template)
    }

    /// One user less; true when nobody is left and the template is forgotten.
    pub fn release(&mut self, template: &Arc<Template>) -> bool {
        let Some((_, users)) = self.by_print.get_mut(&template.print) else {
            return false;
        };
        *users -= 1;
        if *users == 0 {
            self.by_print.remove(&template.print);
            return true;
        }
        false
    }

    /// Templates in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_print.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_needs_are_one_template_until_the_last_user_is_gone() {
        let mut templates = Templates::default();
        let (a, new) = templates.acquire(&PodNeeds::default());
        let (b, again) = templates.acquire(&PodNeeds::default());
        assert!(new && !again && Arc::ptr_eq(&a, &b));
        assert!(!templates.release(&a));
        assert!(templates.release(&b));
        assert_eq!(templates.len(), 0);
    }
}
