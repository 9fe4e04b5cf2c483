/** One metric family of the Prometheus text format. */
export interface MetricFamily {
  name: string
  help: string
  type: 'counter' | 'gauge'
  samples: { labels: Record<string, string | number>; value: number }[]
}

/** Formats metric families in the Prometheus text format, version 0.0.4. */
export function formatMetrics(families: readonly MetricFamily[]): string {
  let text = ''
  for (const { name, help, type, samples } of families) {
    text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
    for (const { labels, value } of samples) {
      const pairs = Object.entries(labels).map(
        ([label, labelValue]) => `${label}="${escapeLabel(String(labelValue))}"`,
      )
      text += `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`
    }
  }
  return text
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
