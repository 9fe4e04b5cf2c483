/**
 * Arrays and records from clients, parsed up to their first error only. zod's own collect an issue for every wrong element,
 * although only the first is reported: a body of 300 KB made 18 MB of issues in seconds, and a longer one overflowed the
 * stack.
 */
/* oxlint-disable no-underscore-dangle -- zod's interface for custom schemas is named so */
import { z } from 'zod'

/**
 * Creates a schema like `z.array` that stops at the first wrong element; the elements of an array that is too long are not parsed.
 *
 * @param isValid tells cheaply that an element is valid as it is; the others are parsed. For arrays of very many elements
 */
export function boundedArray<T extends z.ZodType>(
  element: T,
  isValid?: (item: unknown) => boolean,
): z.ZodArray<T> {
  return new BoundedArray({ type: 'array', element, isValid }) as z.ZodArray<T>
}

interface BoundedArrayDef extends z.core.$ZodArrayDef {
  isValid?: ((item: unknown) => boolean) | undefined
}

/**
 * Limits a record schema to `max` entries; a larger record is rejected without parsing any.
 *
 * @param noun the entries in the error message, such as 'tokens'
 */
export function boundedRecord<T extends z.ZodRecord>(max: number, noun: string, record: T): T {
  return new BoundedRecord({ ...record._zod.def, max, noun }) as T
}

const BoundedArray = z.core.$constructor('BoundedArray', (schema: z.ZodArray, def: BoundedArrayDef) => {
  z.ZodArray.init(schema, def)
  const maxLength = Math.min(...(def.checks ?? []).map(maxLengthOf))
  const parseAll = schema._zod.parse.bind(schema._zod)
  schema._zod.parse = (payload, context) => {
    const { value } = payload
    if (!Array.isArray(value) || value.length > maxLength) return parseAll(payload, context)
    const parsed: unknown[] = []
    for (const [index, item] of value.entries()) {
      if (def.isValid?.(item)) {
        parsed.push(item)
        continue
      }
      const result = def.element._zod.run({ value: item, issues: [] }, context)
      if (result instanceof Promise) throw new z.core.$ZodAsyncError()
      // Later checks see the elements up to the wrong one, where the issue lets them run.
      parsed.push(result.value)
      if (result.issues.length === 0) continue
      payload.issues.push(...z.core.util.prefixIssues(index, result.issues))
      break
    }
    payload.value = parsed
    return payload
  }
})

function maxLengthOf({ _zod }: z.core.$ZodCheck): number {
  return (_zod.def as Partial<z.core.$ZodCheckMaxLengthDef>).maximum ?? Infinity
}

const BoundedRecord = z.core.$constructor(
  'BoundedRecord',
  (schema: z.ZodRecord, def: z.core.$ZodRecordDef & { max: number; noun: string }) => {
    z.ZodRecord.init(schema, def)
    const parseAll = schema._zod.parse.bind(schema._zod)
    schema._zod.parse = (payload, context) => {
      const { value: input } = payload
      if (typeof input !== 'object' || input === null || Object.keys(input).length <= def.max)
        return parseAll(payload, context)
      const message = `expected at most ${def.max} ${def.noun}`
      payload.issues.push({ code: 'custom', message, input, inst: schema })
      return payload
    }
  },
)
