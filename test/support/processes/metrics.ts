/** Sums a metric in Prometheus' text format over the series whose labels contain `labels`. */
export function sumMetric(metrics: string, name: string, labels = ''): number {
  let sum = 0
  for (const [, own = '', value] of metrics.matchAll(new RegExp(`^${name}\\{(.*)\\} (\\d+)$`, 'gm')))
    if (own.includes(labels)) sum += Number(value)
  return sum
}
