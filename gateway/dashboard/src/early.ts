/** Sets the theme before the first paint, so that it does not flash. A script of its own, loaded in the head. */
import { applyTheme, readTheme } from './theme/theme.ts'

applyTheme(readTheme())
