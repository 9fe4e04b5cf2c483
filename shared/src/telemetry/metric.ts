/** A metric that the gateway or the node exports. */
export interface Metric {
  /** The OpenTelemetry name. Prometheus has {@link prometheusName}. */
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** The unit by UCUM: `s`, `By`, `1` of a ratio, or an annotation in braces, such as `{request}`. */
  readonly unit: string
  /** Names of attributes. Prometheus has {@link prometheusLabel}. */
  readonly labels: readonly string[]
  /** The meaning for operators: one line of Markdown, links relative to `docs/`. */
  readonly meaning: string
}

/** Suffixes that Prometheus names take from units; annotations give none. */
const UNIT_SUFFIXES: Readonly<Record<string, string>> = { s: 'seconds', By: 'bytes' }

/**
 * Returns the Prometheus name of a metric by the translation of the OpenTelemetry specification, as the collector does it:
 * other characters become `_`, and the unit and `_total` of a counter are appended unless the name has them.
 */
export function prometheusName({ name, type, unit }: Pick<Metric, 'name' | 'type' | 'unit'>): string {
  const suffix = unit === '1' && type === 'gauge' ? 'ratio' : UNIT_SUFFIXES[unit]
  const base = name.replaceAll(/[^a-zA-Z0-9_]/g, '_')
  const withUnit = suffix === undefined || base.endsWith(`_${suffix}`) ? base : `${base}_${suffix}`
  return type === 'counter' ? `${withUnit}_total` : withUnit
}

/** Returns the Prometheus name of a label. */
export function prometheusLabel(attribute: string): string {
  return attribute.replaceAll(/[^a-zA-Z0-9_]/g, '_')
}
