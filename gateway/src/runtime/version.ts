/** The version of the gateway, as in its package. */
export const VERSION = '0.1.0'
