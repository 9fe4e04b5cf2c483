import { labelsOf, type Exemplar, type HistogramValue, type MetricFamily } from './family.ts'
import { prometheusLabel, prometheusName } from './metric.ts'

/** A text format that Prometheus reads. */
export type ExpositionFormat = 'prometheus' | 'openmetrics'

/** The content types of the formats. */
export const EXPOSITION_TYPES: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** Returns the format that a scraper prefers by its `Accept` header; only OpenMetrics has exemplars. */
export function acceptedFormat(accept: string | null | undefined): ExpositionFormat {
  return accept?.includes('application/openmetrics-text') ? 'openmetrics' : 'prometheus'
}

/** Formats metrics in the Prometheus text format 0.0.4, or in OpenMetrics 1.0 with exemplars. */
export function formatMetrics(families: readonly MetricFamily[], format: ExpositionFormat): string {
  const isOpen = format === 'openmetrics'
  const parts: string[] = []
  for (const family of families) {
    const { metric, samples } = family
    const name = prometheusName(metric)
    // A counter of OpenMetrics has its suffix only on its samples.
    const familyName = isOpen && metric.type === 'counter' ? name.slice(0, -'_total'.length) : name
    parts.push(`# HELP ${familyName} ${escapeHelp(plainText(metric.meaning))}\n`)
    parts.push(`# TYPE ${familyName} ${metric.type}\n`)
    for (const sample of samples) {
      const labels = labelsOf(family, sample).map(([label, value]) => pair(prometheusLabel(label), value))
      if ('histogram' in sample) parts.push(formatHistogram(name, labels, sample.histogram, isOpen))
      else parts.push(`${name}${braces(labels)} ${formatNumber(sample.value)}\n`)
    }
  }
  if (isOpen) parts.push('# EOF\n')
  return parts.join('')
}

function formatHistogram(
  name: string,
  labels: readonly string[],
  { bounds, counts, sum, exemplars }: HistogramValue,
  withExemplars: boolean,
): string {
  let total = 0
  let text = ''
  for (let index = 0; index <= bounds.length; index++) {
    total += counts[index] ?? 0
    const bound = bounds[index]
    const le = pair('le', bound === undefined ? '+Inf' : formatBound(bound))
    const exemplar = withExemplars ? exemplars?.[index] : undefined
    text += `${name}_bucket${braces([...labels, le])} ${total}${exemplar ? formatExemplar(exemplar) : ''}\n`
  }
  return `${text}${name}_sum${braces(labels)} ${formatNumber(sum)}\n${name}_count${braces(labels)} ${total}\n`
}

function formatExemplar({ traceId, spanId, value, atMs }: Exemplar): string {
  const labels = braces([pair('trace_id', traceId), pair('span_id', spanId)])
  return ` # ${labels} ${formatNumber(value)} ${(atMs / 1000).toFixed(3)}`
}

/** Formats a bound as OpenMetrics demands: a whole number has `.0`, and both formats name one series alike. */
function formatBound(bound: number): string {
  return Number.isInteger(bound) ? `${bound}.0` : String(bound)
}

function formatNumber(value: number): string {
  if (value === Infinity) return '+Inf'
  return value === -Infinity ? '-Inf' : String(value)
}

function braces(pairs: readonly string[]): string {
  return pairs.length > 0 ? `{${pairs.join(',')}}` : ''
}

function pair(label: string, value: string | number): string {
  const text = String(value).replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
  return `${label}="${text}"`
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

/** Returns one line of Markdown without code marks and links. */
function plainText(markdown: string): string {
  return markdown.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('`', '')
}
