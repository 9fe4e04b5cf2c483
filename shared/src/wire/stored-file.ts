/** The gateway's responses to uploads of nodes. They name what was stored, so that no other server's page is taken for one. */
import { z } from 'zod'
import { sha256Hex } from './identifiers.ts'

/** Response to an upload of a mask file, a part of one, or a piece of statistics. */
export const storedFile = z.object({ sha256: sha256Hex })

/** What the gateway says of a file that it stored. */
export type StoredFile = z.output<typeof storedFile>

/** Response to the manifest of a statistics artifact. */
export const storedArtifact = z.object({ artifact: sha256Hex })

/** What the gateway says of an artifact that is complete. */
export type StoredArtifact = z.output<typeof storedArtifact>
