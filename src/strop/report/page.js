'use strict'
// What a report does once it is read: draws its figures and sorts its tables. Everything stands in the page already.

const GRID = 'rgba(128,128,128,0.3)' // seen on a white page and on a black one
const CONFIG = {responsive: true, displayModeBar: false}
const FEW = 3 // ticks of an axis, at the least
const MANY = 25 // points, above which bars of their spread would hide them
const CROWD = 150 // points, above which they are drawn smaller
const NARROW = 480 // pixels, under which titles of axes take two lines, and what a mark says more of them
const PAPER = 640 // pixels, the width of a figure that is printed
const EDGE = 0.08 // of the room that points take, left free on each side
const FINE = 0.01 // of a value, that an axis shows at the least: nothing is told apart by less
const NEAR = 4 // times that room, within which a limit is shown though no point is beside it
const WIDE = 20 // times the least of a ratio that the greatest is, above which an axis is logarithmic

function looks(layout) {
  const axis = {
    gridcolor: GRID, zeroline: false, automargin: true, exponentformat: 'power', ticks: 'outside', ticklen: 4,
    tickcolor: 'rgba(0,0,0,0)', tickfont: {size: 12},
  }
  for (const name of Object.keys(layout).filter(name => /^[xy]axis\d*$/.test(name))) {
    Object.assign(layout[name], axis)
    if (layout[name].title) layout[name].title.standoff = 12
    if (layout[name].type === 'log' && layout[name].range) Object.assign(layout[name], ticks(...layout[name].range))
  }
  return Object.assign(layout, {
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', margin: {l: 8, r: 8, t: 8, b: 8},
    font: {family: 'system-ui, sans-serif', size: 12}, hoverlabel: {bgcolor: '#222', font: {color: '#fff'}, align: 'left'},
    legend: {orientation: 'h', y: 1.02, yanchor: 'bottom', ...layout.legend},
  })
}

// Of a logarithmic axis, in full: as powers, or as digits between them, they can't be told from others.
function ticks(low, high) {
  const decades = Array.from({length: Math.ceil(high) - Math.floor(low) + 1}, (_, at) => 10 ** (Math.floor(low) + at))
  for (const steps of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    const values = decades.flatMap(decade => steps.map(step => step * decade))
    const shown = values.filter(value => Math.log10(value) >= low && Math.log10(value) <= high)
    if (shown.length >= FEW) return {tickvals: shown, ticktext: shown.map(value => String(Number(value.toPrecision(2))))}
  }
  return {}
}

// The ends of an axis: all points, and the limits that are not far from them; spreads may reach beyond.
function room(points, limits, logarithmic) {
  const scaled = logarithmic ? Math.log10 : value => value
  let low = Math.min(...points.map(scaled)), high = Math.max(...points.map(scaled))
  const short = FINE * (logarithmic ? 1 : Math.max(Math.abs(low), Math.abs(high))) - (high - low)
  if (short > 0) [low, high] = [low - short / 2, high + short / 2]
  const wide = high - low || 1
  for (const at of limits.map(scaled)) {
    if (at < low && low - at <= NEAR * wide) low = at
    if (at > high && at - high <= NEAR * wide) high = at
  }
  const free = EDGE * (high - low)
  return [low - free, high + free]
}

// The points that no other one beats in both, from left to right.
function frontier(points, across, up) {
  const better = (a, b, way) => way === 'lower' ? a < b : a > b
  const ordered = points.slice().sort((a, b) => across === 'lower' ? a[0] - b[0] : b[0] - a[0])
  const kept = []
  for (const point of ordered) if (!kept.length || better(point[1], kept[kept.length - 1][1], up)) kept.push(point)
  return kept
}

// All candidates over two metrics, which a person chooses.
function choices(figure, plot, found) {
  const [across, up] = figure.querySelectorAll('select')
  const draw = () => {
    const narrow = plot.clientWidth < NARROW
    const said = label => label.replace(narrow ? /\n|, | (?=\+ )/g : /\n/g, '<br>')
    const names = [across.value, up.value]
    const sides = names.map(name => found.metrics[name])
    const placed = group => group.label.map((_, at) => names.map(name => group.values[name][at]))
    const drawn = [], best = []
    let count = 0
    for (const group of found.groups) count += group.label.length
    for (const group of found.groups) {
      const points = placed(group)
      const shown = points.map((point, at) => at).filter(at => points[at].every(value => value !== null))
      if (group.front) best.push(...shown.map(at => points[at]))
      const spread = side => ({
        type: 'data', symmetric: false, thickness: 1, width: 2, color: `${group.colour}80`, visible: count <= MANY,
        array: shown.map(at => Math.max(0, group.high[names[side]][at] - points[at][side])),
        arrayminus: shown.map(at => Math.max(0, points[at][side] - group.low[names[side]][at])),
      })
      drawn.push({
        type: 'scatter', mode: 'markers', name: group.name, x: shown.map(at => points[at][0]),
        y: shown.map(at => points[at][1]), text: shown.map(at => said(group.label[at])), hoverinfo: 'text',
        marker: {
          color: group.colour, symbol: group.symbol, line: {width: 1, color: 'rgba(128,128,128,0.8)'},
          ...(count > CROWD && group.label.length > 1 ? {size: 0.7 * group.size, opacity: 0.6} : {size: group.size, opacity: 0.9}),
        },
        error_x: spread(0), error_y: spread(1), legendrank: drawn.length + 1,
      })
    }
    const line = frontier(best, sides[0].better, sides[1].better)
    drawn.reverse() // what is handed over lies on top
    drawn.unshift({
      type: 'scatter', mode: 'lines', name: 'frontier', x: line.map(p => p[0]), y: line.map(p => p[1]), hoverinfo: 'skip',
      line: {color: '#888', width: 1, dash: 'dot', shape: sides[0].better === 'lower' ? 'hv' : 'vh'}, legendrank: 99,
    })
    const values = side => drawn.flatMap(trace => side ? trace.y : trace.x)
    const shapes = [], annotations = [], away = []
    const logarithmic = sides.map((side, at) => {
      const known = values(at)
      return side.ratio && Math.min(...known) > 0 && Math.max(...known) > WIDE * Math.min(...known)
    })
    const ends = sides.map((side, at) => room(values(at), side.limits.map(limit => limit.at), logarithmic[at]))
    sides.forEach((side, at) => side.limits.forEach(limit => {
      const [own, other] = at ? ['y', 'x'] : ['x', 'y']
      const place = logarithmic[at] ? Math.log10(limit.at) : limit.at
      if (place < ends[at][0] || place > ends[at][1]) return away.push(limit.said)
      shapes.push({
        type: 'line', [`${own}0`]: limit.at, [`${own}1`]: limit.at, [`${other}0`]: 0, [`${other}1`]: 1,
        [`${own}ref`]: own, [`${other}ref`]: 'paper', line: {color: '#d55e00', width: 1.5, dash: 'dash'},
      })
      annotations.push({
        [own]: place, [other]: at ? 1 : 0, xref: at ? 'paper' : 'x',
        yref: at ? 'y' : 'paper', text: limit.text, showarrow: false, font: {size: 11}, textangle: at ? 0 : -90,
        xanchor: 'right', yanchor: 'bottom',
      })
    }))
    const title = ({title}) => narrow ? title.replace(' (', '<br>(') : title
    const axis = at => ({title: {text: title(sides[at])}, type: logarithmic[at] ? 'log' : 'linear', range: ends[at]})
    Plotly.react(plot, drawn, looks({xaxis: axis(0), yaxis: axis(1), shapes, annotations, hovermode: 'closest'}), CONFIG)
    figure.querySelector('figcaption').textContent = away.length ? `Far from all marks, so not drawn: ${away.join(', ')}.` : ''
  }
  for (const select of [across, up]) select.addEventListener('change', draw)
  draw()
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells]
  heads.forEach((head, column) => {
    const button = document.createElement('button')
    button.type = 'button'
    button.append(...head.childNodes)
    head.append(button)
    button.addEventListener('click', () => {
      const rising = head.getAttribute('aria-sort') !== 'ascending'
      for (const other of heads) other.removeAttribute('aria-sort')
      head.setAttribute('aria-sort', rising ? 'ascending' : 'descending')
      const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent.trim()
      const compare = (a, b) => {
        const [one, two] = [key(a), key(b)]
        if (!one || !two) return !one - !two // what is not known comes last, either way
        const numbers = [Number(one), Number(two)]
        const order = numbers.some(Number.isNaN) ? one.localeCompare(two) : numbers[0] - numbers[1]
        return rising ? order : -order
      }
      const body = table.tBodies[0]
      body.append(...[...body.rows].sort(compare))
    })
  })
}

// Text to be copied by one press, where the browser lets a page do that.
function copied(box) {
  const button = document.createElement('button')
  button.type = 'button'
  button.textContent = 'Copy'
  button.addEventListener('click', () => navigator.clipboard.writeText(box.querySelector('pre').textContent).then(
    () => { button.textContent = 'Copied' }, () => { button.textContent = 'Not allowed here' }
  ))
  box.append(button)
}

// What scrolls can be reached by the keyboard; what does not is no stop on the way.
const stops = new ResizeObserver(seen => seen.forEach(({target: box}) => {
  box.tabIndex = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight ? 0 : -1
}))
document.querySelectorAll('.wide, pre').forEach(box => stops.observe(box))
document.querySelectorAll('table.sortable').forEach(sortable)
if (navigator.clipboard) document.querySelectorAll('.code').forEach(copied)
document.querySelectorAll('figure').forEach(figure => {
  const plot = figure.querySelector('.plot'), found = JSON.parse(figure.querySelector('script').textContent)
  if (found.groups) choices(figure, plot, found)
  else Plotly.newPlot(plot, found.data, looks({...found.layout, template: {}}), CONFIG)
})
const plots = document.querySelectorAll('.plot')
addEventListener('beforeprint', () => plots.forEach(plot => Plotly.relayout(plot, {width: Math.min(PAPER, plot.clientWidth)})))
addEventListener('afterprint', () => plots.forEach(plot => Plotly.relayout(plot, {width: null, autosize: true})))
