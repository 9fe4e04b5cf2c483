import type { Tool } from '@copal/shared/wire/tools.ts'

/** A tool whose parameters are recursive. */
export const TREE: Tool = {
  type: 'function',
  function: {
    name: 'plant',
    parameters: {
      type: 'object',
      properties: {
        tree: { $ref: '#/$defs/tree' },
        kind: { enum: ['oak', '</tool_call>'] },
      },
      required: ['tree', 'kind'],
      additionalProperties: false,
      $defs: {
        tree: {
          type: 'object',
          properties: {
            leaf: { type: 'boolean' },
            more: { type: 'array', items: { $ref: '#/$defs/tree' }, maxItems: 2 },
          },
          required: ['leaf'],
          additionalProperties: false,
        },
      },
    },
  },
}

/** A tool without parameters. */
export const CLOCK: Tool = { type: 'function', function: { name: 'clock' } }
