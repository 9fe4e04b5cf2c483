/**
 * Lists and pairs from outside. zod's own have an issue for everything that is wrong in them, of which only the first is
 * told: a body of 300 KB made 18 MB of issues in seconds, and a longer one overflowed the stack.
 */
/* oxlint-disable no-underscore-dangle -- what zod lets schemas of one's own be made of is named so */
import { z } from 'zod'

/** Like `z.array`, but looked at no further than to the first element that is wrong; one that is too long not at all. */
export function boundedArray<T extends z.ZodType>(element: T): z.ZodArray<T> {
  return new BoundedArray({ type: 'array', element }) as z.ZodArray<T>
}

/** The record, but of more than `most` pairs, as `pairs` names them, none is looked at. */
export function boundedRecord<T extends z.ZodRecord>(most: number, pairs: string, record: T): T {
  return new BoundedRecord({ ...record._zod.def, most, pairs }) as T
}

const BoundedArray = z.core.$constructor(
  'FirstFaultArray',
  (schema: z.ZodArray, def: z.core.$ZodArrayDef) => {
    z.ZodArray.init(schema, def)
    const most = Math.min(...(def.checks ?? []).map(maxLengthOf))
    const parseAll = schema._zod.parse.bind(schema._zod)
    schema._zod.parse = (payload, context) => {
      const { value } = payload
      if (!Array.isArray(value) || value.length > most) return parseAll(payload, context)
      const parsed: unknown[] = []
      for (const [index, item] of value.entries()) {
        const result = def.element._zod.run({ value: item, issues: [] }, context)
        if (result instanceof Promise) throw new z.core.$ZodAsyncError()
        // What is checked behind may see the elements up to here, if what is wrong lets it.
        parsed.push(result.value)
        if (result.issues.length === 0) continue
        payload.issues.push(...z.core.util.prefixIssues(index, result.issues))
        break
      }
      payload.value = parsed
      return payload
    }
  },
)

function maxLengthOf({ _zod }: z.core.$ZodCheck): number {
  return (_zod.def as Partial<z.core.$ZodCheckMaxLengthDef>).maximum ?? Infinity
}

const BoundedRecord = z.core.$constructor(
  'BoundedRecord',
  (schema: z.ZodRecord, def: z.core.$ZodRecordDef & { most: number; pairs: string }) => {
    z.ZodRecord.init(schema, def)
    const parseAll = schema._zod.parse.bind(schema._zod)
    schema._zod.parse = (payload, context) => {
      const { value: input } = payload
      if (typeof input !== 'object' || input === null || Object.keys(input).length <= def.most)
        return parseAll(payload, context)
      const message = `at most ${def.most} ${def.pairs} are possible`
      payload.issues.push({ code: 'custom', message, input, inst: schema })
      return payload
    }
  },
)
