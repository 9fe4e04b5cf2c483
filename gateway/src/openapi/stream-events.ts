import type { Operation } from './operation.ts'
import type { JsonSchema } from './openapi-schema.ts'

const JSON_IN_TEXT = { type: 'string', contentMediaType: 'application/json' }

/**
 * Returns the schema of one server-sent event, an object of the event's fields.
 *
 * `data` is a string that holds JSON (an OpenAI object or an error; in streams with named events the error is one of the
 * events) or the end marker of the stream. OpenAPI 3.1 cannot describe a sequence of events; like OpenAI's own document,
 * this one gives a stream the schema of each of its events.
 */
export function streamEventSchema({ event, end }: NonNullable<Operation['streams']>): JsonSchema {
  const refer = (name: string) => ({ $ref: `#/components/schemas/${name}` })
  const content = end ? { anyOf: [refer(event.name), refer('Error')] } : refer(event.name)
  const data = { ...JSON_IN_TEXT, contentSchema: content }
  return {
    type: 'object',
    description:
      'One event of the stream. A stream that fails ends with an error event. ' +
      (end ? `A complete stream ends with \`${end}\`.` : 'The name of an event is the `type` in its `data`.'),
    properties: {
      event: { type: 'string' },
      data: end ? { anyOf: [{ const: end }, data] } : data,
    },
    required: end ? ['data'] : ['event', 'data'],
  }
}
