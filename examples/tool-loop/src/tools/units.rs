//! Units of length, mass, volume and temperature.

/// A unit: its names, the first of which the model is offered; what it measures; and how it becomes the base unit of
/// that (metre, kilogram, litre, kelvin): `value * factor + offset`.
struct Unit {
    names: &'static [&'static str],
    measures: &'static str,
    factor: f64,
    offset: f64,
}

const fn unit(names: &'static [&'static str], measures: &'static str, factor: f64) -> Unit {
    Unit { names, measures, factor, offset: 0.0 }
}

const fn degrees(names: &'static [&'static str], factor: f64, offset: f64) -> Unit {
    Unit { names, measures: "temperature", factor, offset }
}

const UNITS: &[Unit] = &[
    unit(&["millimetres", "millimeters", "mm"], "length", 0.001),
    unit(&["centimetres", "centimeters", "cm"], "length", 0.01),
    unit(&["metres", "meters", "m"], "length", 1.0),
    unit(&["kilometres", "kilometers", "km"], "length", 1000.0),
    unit(&["inches", "inch", "in"], "length", 0.0254),
    unit(&["feet", "foot", "ft"], "length", 0.3048),
    unit(&["yards", "yd"], "length", 0.9144),
    unit(&["miles", "mi"], "length", 1609.344),
    unit(&["grams", "g"], "mass", 0.001),
    unit(&["kilograms", "kg"], "mass", 1.0),
    unit(&["tonnes", "t"], "mass", 1000.0),
    unit(&["ounces", "oz"], "mass", 0.028_349_523_125),
    unit(&["pounds", "lb", "lbs"], "mass", 0.453_592_37),
    unit(&["millilitres", "milliliters", "ml"], "volume", 0.001),
    unit(&["litres", "liters", "l"], "volume", 1.0),
    unit(&["gallons", "gal"], "volume", 3.785_411_784),
    degrees(&["celsius", "c", "°c"], 1.0, 273.15),
    degrees(&["fahrenheit", "f", "°f"], 5.0 / 9.0, 459.67 * 5.0 / 9.0),
    degrees(&["kelvin", "k"], 1.0, 0.0),
];

/// The names that the model is offered. Gallons are those of the United States.
pub(super) fn names() -> Vec<&'static str> {
    UNITS.iter().map(|unit| unit.names[0]).collect()
}

/// `value` in another unit of the same measure, to twelve significant digits.
pub(super) fn convert(value: f64, from: &str, to: &str) -> Result<f64, String> {
    let (of, into) = (find(from)?, find(to)?);
    if of.measures != into.measures {
        return Err(format!("{from} are no measure of {}, as {to} are", into.measures));
    }
    let base = value.mul_add(of.factor, of.offset);
    let converted = (base - into.offset) / into.factor;
    // What the detour over the base unit adds beyond these digits is noise: 100 celsius are 212 fahrenheit.
    let rounded = format!("{converted:.11e}").parse().ok().filter(|rounded: &f64| rounded.is_finite());
    rounded.ok_or_else(|| format!("{value} is too large to convert"))
}

fn find(name: &str) -> Result<&'static Unit, String> {
    let wanted = name.trim().to_lowercase();
    let known = |unit: &&Unit| {
        unit.names
            .iter()
            .any(|name| *name == wanted || name.strip_suffix('s').is_some_and(|one| one == wanted))
    };
    let unknown = || format!("there is no unit {name:?}; there are {}", names().join(", "));
    UNITS.iter().find(known).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_converted() {
        for (value, from, to, converted) in [
            (26.2, "miles", "kilometres", 42.164_812_8),
            (1.0, "Mile", "ft", 5280.0),
            (100.0, "celsius", "fahrenheit", 212.0),
            (-40.0, "F", "°C", -40.0),
            (0.0, "kelvin", "celsius", -273.15),
            (1.0, "pound", "ounces", 16.0),
            (1.0, "gallon", "litres", 3.785_411_784),
            (2.5, "tonnes", "kg", 2500.0),
        ] {
            assert_eq!(convert(value, from, to), Ok(converted), "{value} {from} in {to}");
        }
    }

    #[test]
    fn what_cannot_be_converted_is_said() {
        assert!(
            convert(1.0, "parsecs", "miles")
                .unwrap_err()
                .starts_with("there is no unit \"parsecs\"; there are")
        );
        assert_eq!(
            convert(1.0, "miles", "celsius").unwrap_err(),
            "miles are no measure of temperature, as celsius are"
        );
        assert!(convert(f64::MAX, "kilometres", "millimetres").is_err_and(|e| e.contains("too large")));
    }
}
