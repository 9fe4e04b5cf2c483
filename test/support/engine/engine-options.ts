/** Default engine options of tests: the best kernel of the machine and the default precisions. */
export const ENGINE_OPTIONS = { kernel: null, threads: 2, precision: 'bf16', headPrecision: 'int8' } as const
