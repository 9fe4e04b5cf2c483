/** How tests run an engine of the addon where nothing else is asked: on the best kernel, in the usual precisions. */
export const ENGINE_OPTIONS = { kernel: null, threads: 2, precision: 'bf16', headPrecision: 'int8' } as const
