/** A schema with a finite set of values, so that every answer ends. */
export const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 8 },
    age: { type: 'integer', minimum: 0, maximum: 150 },
    likes: { type: 'array', items: { enum: ['tea', 'coffee'] }, maxItems: 3 },
  },
  required: ['name', 'age', 'likes'],
  additionalProperties: false,
}
/** A response format that requires {@link PERSON}. */
export const FORMAT = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: PERSON } }
/** A tool with parameters. */
export const WEATHER = {
  type: 'function',
  function: {
    name: 'weather',
    description: 'The weather in a city',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', maxLength: 6 }, unit: { enum: ['C', 'F'] } },
      required: ['city', 'unit'],
      additionalProperties: false,
    },
  },
}
/** A tool without parameters. */
export const CLOCK = { type: 'function', function: { name: 'clock' } }
/** The parameter schemas of the tools, by tool name. */
export const PARAMETERS: Record<string, object> = {
  weather: WEATHER.function.parameters,
  clock: { type: 'object', maxProperties: 0 },
}
