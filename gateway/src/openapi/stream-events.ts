import type { Operation } from './operation.ts'
import type { JsonSchema } from './schema.ts'

const JSON_IN_TEXT = { type: 'string', contentMediaType: 'application/json' }

/**
 * One server-sent event, an object of its fields: `data` is a text that holds JSON, an object of OpenAI's or an error,
 * which is one of its events where these have names, or what ends the stream. OpenAPI 3.1 has no word for one of a
 * sequence; that the schema of a stream is that of each of its events is how OpenAI's own document has it.
 */
export function streamedEvent({ event, end }: NonNullable<Operation['streams']>): JsonSchema {
  const refer = (name: string) => ({ $ref: `#/components/schemas/${name}` })
  const said = end ? { anyOf: [refer(event.name), refer('Error')] } : refer(event.name)
  const data = { ...JSON_IN_TEXT, contentSchema: said }
  return {
    type: 'object',
    description:
      'Each event. A stream that breaks ends with an error. ' +
      (end ? `One that does not ends with \`${end}\`.` : 'The name of an event is the `type` of its `data`.'),
    properties: {
      event: { type: 'string' },
      data: end ? { anyOf: [{ const: end }, data] } : data,
    },
    required: end ? ['data'] : ['event', 'data'],
  }
}
