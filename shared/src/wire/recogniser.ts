import { z } from 'zod'

/** A class that an external recogniser may find; its replacement is its name in brackets, as in `[name]`. */
export const recognisedClass = z.enum(['name', 'address', 'organization', 'date', 'other'])
/** A class of {@link recognisedClass}. */
export type RecognisedClass = z.output<typeof recognisedClass>

/** The response of an external recogniser: for each text of the request its spans, in Unicode code points. */
export const recogniserResponse = z.object({
  spans: z.array(
    z.array(z.object({ start: z.int().min(0), end: z.int().min(1), label: recognisedClass })).max(8192),
  ),
})
