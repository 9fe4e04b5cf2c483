import type { JsonSchema } from '@copal/shared/wire/schema-walk.ts'

const PATTERNS = ['^[a-c]{2,4}$', '^\\d{3}-\\d{2}$', '^(x|yz)+$', 'q']
/** Without email and times: the two implementations differ on domains without a dot and on leap seconds. */
const FORMATS = ['date', 'ipv4', 'ipv6', 'uuid']

/** Returns a random schema of supported keywords. A `$ref` may lead back to the root, which makes it recursive. */
export function randomSchema(random: () => number): JsonSchema {
  const whole = (from: number, to: number) => from + Math.floor(random() * (to - from + 1))
  const oneOf = <T>(options: readonly T[]): T => options[whole(0, options.length - 1)] as T
  let definitions = 0
  const $defs: Record<string, JsonSchema> = {}

  const scalar = (): JsonSchema =>
    oneOf<() => JsonSchema>([
      () => ({ type: 'boolean' }),
      () => ({ type: 'null' }),
      () => ({ type: 'integer', minimum: whole(-50, 0), maximum: whole(1, 2000) }),
      () => ({ type: 'integer', exclusiveMinimum: whole(-9, 9), maximum: 5000, multipleOf: whole(1, 7) }),
      () => ({ type: 'number', minimum: -1.5, maximum: whole(2, 900) }),
      () => ({ type: 'string', minLength: whole(0, 2), maxLength: whole(2, 9) }),
      () => ({ type: 'string', pattern: oneOf(PATTERNS) }),
      () => ({ type: 'string', format: oneOf(FORMATS) }),
      () => ({ enum: ['red', 7, null, true, 'a "b" \\ é 😀\n'] }),
      () => ({ const: oneOf<unknown>(['yes', -3, { a: [1, 'x'] }]) }),
      () => ({ type: ['string', 'null'], maxLength: 4 }),
    ])()

  const any = (depth: number): JsonSchema => {
    if (depth === 0) return scalar()
    return oneOf<() => JsonSchema>([
      scalar,
      () => object(depth - 1),
      () => object(depth - 1),
      () => ({ type: 'array', items: any(depth - 1), minItems: whole(0, 2), maxItems: whole(2, 4) }),
      () => ({ type: 'array', prefixItems: [any(depth - 1), scalar()], items: false, minItems: 2 }),
      () => ({ anyOf: [any(depth - 1), scalar()] }),
      () => {
        const name = `part-${definitions++}`
        $defs[name] = any(depth - 1)
        return { $ref: `#/$defs/${name}` }
      },
    ])()
  }

  const object = (depth: number): JsonSchema => {
    const names = ['a', 'b c', 'é"', '$ref', 'value'].slice(0, whole(0, 5))
    const properties = Object.fromEntries(names.map((name) => [name, any(depth)]))
    return {
      type: 'object',
      properties,
      required: names.filter(() => random() < 0.6),
      additionalProperties: random() < 0.7 ? false : scalar(),
    }
  }

  const root = object(3)
  if (random() < 0.3) (root['properties'] as Record<string, JsonSchema>)['again'] = { $ref: '#' }
  return { ...root, $defs }
}
