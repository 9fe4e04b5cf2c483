/** A JSON schema with texts, a choice and a list, for tests of outputs that follow one. */
export const DOCUMENT_SCHEMA = {
  type: 'object',
  properties: {
    title: { type: 'string', maxLength: 12 },
    classification: { enum: ['invoice', 'invitation', 'complaint'] },
    pages: { type: 'array', items: { type: 'integer' }, maxItems: 3 },
  },
  required: ['title', 'classification', 'pages'],
  additionalProperties: false,
}
