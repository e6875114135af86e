//! Figures as pictures (SVG).

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::report::Row;
use crate::sweep::Found;

const SIZE: (u32, u32) = (800, 480);
const FONT: (&str, u32) = ("sans-serif", 16);

/// Curves that share their axes.
struct Picture<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    curves: Vec<(&'a str, Vec<(f64, f64)>)>,
}

/// Mpps of `run`'s rows against connections, which grow by powers.
pub(crate) fn rate_against_flows(file: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let points = rows.iter().map(|row| (f64::from(row.flows), row.mpps)).collect();
    let title = rows.first().map_or("", |row| row.mode);
    let picture =
        Picture { title, x: "connections", y: "Mpps, one core", curves: vec![("", points)] };
    let most = rows.iter().map(|row| f64::from(row.flows)).fold(10.0, f64::max);
    let fewest = rows.iter().map(|row| f64::from(row.flows)).fold(most, f64::min);
    draw(file, &picture, (fewest..most * 1.1).log_scale())
}

/// Latency of `sweep` against load.
pub(crate) fn latency_against_load(file: &Path, found: &Found) -> anyhow::Result<()> {
    let curve = |quantile: fn(&crate::latency::Latency) -> f64| {
        let point = |at: &crate::sweep::AtLoad| {
            (at.latency_ns.offered_mpps, quantile(&at.latency_ns) / 1e3)
        };
        found.latency.iter().map(point).collect()
    };
    let curves = vec![
        ("p50", curve(|latency| latency.p50)),
        ("p99", curve(|latency| latency.p99)),
        ("p99.9", curve(|latency| latency.p999)),
    ];
    let title = format!("{}, {} connections", found.mode, found.flows);
    let picture = Picture { title: &title, x: "Mpps", y: "µs", curves };
    draw(file, &picture, 0.0..found.no_loss_mpps)
}

fn draw<X>(file: &Path, picture: &Picture<'_>, x: X) -> anyhow::Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let points = || picture.curves.iter().flat_map(|(_, points)| points);
    let highest = points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", file.display());
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(picture.title, FONT)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(x, 0.0..highest * 1.1)
        .map_err(|error| failed(&error))?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(picture.x).y_desc(picture.y).draw().map_err(|error| failed(&error))?;
    for (index, (name, points)) in picture.curves.iter().enumerate() {
        let color = Palette99::pick(index).stroke_width(2);
        let series = LineSeries::new(points.iter().copied(), color).point_size(3);
        let drawn = chart.draw_series(series).map_err(|error| failed(&error))?;
        if !name.is_empty() {
            let mark = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color);
            drawn.label(*name).legend(mark);
        }
    }
    let mut legend = chart.configure_series_labels();
    legend.border_style(BLACK).draw().map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}
