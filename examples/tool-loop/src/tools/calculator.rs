//! Arithmetic: `+ - * / % ^`, parentheses and signs, with the usual precedence.

/// How deep parentheses, signs and powers may nest: the parser is recursive, and the text is a model's.
const DEEPEST: usize = 100;

/// The value of an expression.
pub(super) fn evaluate(expression: &str) -> Result<f64, String> {
    let mut parser = Parser { rest: expression, depth: 0 };
    let value = parser.sum()?;
    match parser.peek() {
        Some(found) => Err(format!("expected an operator, found {found:?}")),
        None if value.is_finite() => Ok(value),
        None => Err("the result is no finite number".to_owned()),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(&['+', '-']) {
            let right = self.product()?;
            value = if operator == '+' { value + right } else { value - right };
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        while let Some(operator) = self.take(&['*', '/', '%']) {
            let right = self.signed()?;
            if operator != '*' && right == 0.0 {
                return Err("divided by zero".to_owned());
            }
            value = match operator {
                '*' => value * right,
                '/' => value / right,
                _ => value % right,
            };
        }
        Ok(value)
    }

    /// A sign binds less than a power: -2^2 is -4.
    fn signed(&mut self) -> Result<f64, String> {
        match self.take(&['+', '-']) {
            Some(sign) => self.deeper(Self::signed).map(|value| if sign == '-' { -value } else { value }),
            None => self.power(),
        }
    }

    /// From the right: 2^3^2 is 2^9.
    fn power(&mut self) -> Result<f64, String> {
        let base = self.atom()?;
        match self.take(&['^']) {
            Some(_) => self.deeper(Self::signed).map(|exponent| base.powf(exponent)),
            None => Ok(base),
        }
    }

    fn atom(&mut self) -> Result<f64, String> {
        if self.take(&['(']).is_some() {
            let value = self.deeper(Self::sum)?;
            return match self.take(&[')']) {
                Some(_) => Ok(value),
                None => Err("a parenthesis is not closed".to_owned()),
            };
        }
        let found = self.peek();
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        match found {
            _ if !number.is_empty() => number.parse().map_err(|_| format!("{number:?} is no number")),
            Some(found) => Err(format!("expected a number, found {found:?}")),
            None => Err("expected a number, found the end".to_owned()),
        }
    }

    fn deeper(&mut self, parse: fn(&mut Self) -> Result<f64, String>) -> Result<f64, String> {
        if self.depth == DEEPEST {
            return Err("the expression is nested too deeply".to_owned());
        }
        self.depth += 1;
        let value = parse(self);
        self.depth -= 1;
        value
    }

    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, any: &[char]) -> Option<char> {
        let found = self.peek().filter(|c| any.contains(c))?;
        self.rest = &self.rest[found.len_utf8()..];
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_and_signs() {
        for (expression, value) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("10 - 2 - 3", 5.0),
            ("100 / 10 / 2", 5.0),
            ("17 % 5", 2.0),
            ("-2 ^ 2", -4.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("2 ^ -1", 0.5),
            ("--3", 3.0),
            ("1.5*4", 6.0),
            (" ( ( 7 ) ) ", 7.0),
        ] {
            assert_eq!(evaluate(expression), Ok(value), "{expression}");
        }
    }

    #[test]
    fn what_is_no_arithmetic_is_said() {
        for (expression, reason) in [
            ("", "expected a number, found the end"),
            ("1 +", "expected a number, found the end"),
            ("1 2", "expected an operator, found '2'"),
            ("sqrt(2)", "expected a number, found 's'"),
            ("(1", "a parenthesis is not closed"),
            ("1.2.3", "\"1.2.3\" is no number"),
            ("5 % 0", "divided by zero"),
            ("9 ^ 9999", "the result is no finite number"),
            ("(0-1) ^ 0.5", "the result is no finite number"),
        ] {
            assert_eq!(evaluate(expression).expect_err(expression), reason);
        }
        for deep in ["(".repeat(10_000), "-".repeat(10_000), "2^".repeat(10_000)] {
            assert_eq!(evaluate(&deep).expect_err("deep"), "the expression is nested too deeply");
        }
    }
}
