import type { Operation } from './operation.ts'
import type { JsonSchema } from './schema.ts'

const JSON_IN_TEXT = { type: 'string', contentMediaType: 'application/json' }

/**
 * One server-sent event as OpenAPI 3.2 sees it, an object of its fields: `data` is a text that holds JSON, an object of
 * OpenAI's or an error, or what ends the stream.
 */
export function streamedEvent({ event, end }: NonNullable<Operation['streams']>): JsonSchema {
  const refer = (name: string) => ({ $ref: `#/components/schemas/${name}` })
  const data = { ...JSON_IN_TEXT, contentSchema: { anyOf: [refer(event.name), refer('Error')] } }
  return {
    type: 'object',
    description:
      'A stream that breaks ends with an error. ' +
      (end ? `One that does not ends with \`${end}\`.` : 'The name of an event is the `type` of its `data`.'),
    properties: {
      event: { type: 'string' },
      data: end ? { anyOf: [{ const: end }, data] } : data,
    },
    required: ['data'],
  }
}
