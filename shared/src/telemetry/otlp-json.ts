/** Attributes of the sending process, such as `service.name`. */
export type OtlpResource = Readonly<Record<string, string>>

/** An attribute value. */
export type OtlpValue = string | number | boolean

/** Encodes attributes for OTLP in JSON. */
export function otlpAttributes(attributes: Iterable<readonly [string, OtlpValue]>): object[] {
  return Array.from(attributes, ([key, value]) => ({ key, value: otlpValue(value) }))
}

/** Encodes a resource for OTLP in JSON. */
export function otlpResource(resource: OtlpResource): object {
  return { attributes: otlpAttributes(Object.entries(resource)) }
}

/** Returns a time in nanoseconds as text, since a JavaScript number does not hold it. */
export function unixNano(ms: number): string {
  const whole = Math.floor(ms)
  return String(BigInt(whole) * 1_000_000n + BigInt(Math.round((ms - whole) * 1e6)))
}

function otlpValue(value: OtlpValue): object {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }
}
