"""Families of wording that no calibration meets, in an open and a closed half.

The open half may be looked at while a gate is developed. The closed half is asked once, at the
end; nothing is tuned on it. Items are held-out ones of the contrast set, other ones in each half.
"""
