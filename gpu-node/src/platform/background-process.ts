/** Imported first by child programs, for its effect alone: what they start later inherits it. */
import { enterBackground } from './background-priority.ts'

enterBackground()
